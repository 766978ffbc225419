"""A SQLite file: a thread that writes, many works a commit, and a thread that reads beside it."""

import asyncio
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa

BUSY_SECONDS = 5  # how long a writer waits for the transaction of another process
GROUP = 256  # works a transaction at most: the first waits for the last
# After the commit that brings the log to 128 MB it is written back and begun anew: a page that many
# commits change goes into the file itself once for all of them.
LOG_PAGES = 32_000
CACHE_KIBIBYTES = 2 << 10  # the most that the writer keeps of the file; about SQLite's default

T = TypeVar("T")
TransactionBody = Callable[[sa.Connection], T]


class SqliteDatabase:
    """The tables of one service in one file."""

    def __init__(self, path: Path, cache: int = CACHE_KIBIBYTES) -> None:
        _prepare(path)
        # A deferred transaction that begins to write while another process does fails at once
        # as "locked", whatever the time-out; an immediate one waits its turn.
        # An acknowledgement rests on the commit: NORMAL may lose the last ones at a power cut.
        writer = _engine(
            path,
            "BEGIN IMMEDIATE",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"wal_autocheckpoint={LOG_PAGES}",
            f"cache_size=-{cache}",
            # What undoes a statement or a savepoint: a copy of each page that it changes, which
            # would go through a file and be thrown away.
            "temp_store=MEMORY",
        )
        reader = _engine(path, "BEGIN", "query_only=ON")
        # Its thread has more to do than to wait.
        self._looker = _engine(path, "BEGIN", "query_only=ON", "busy_timeout=0")
        self._watch = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._closed = False
        self._writer = _Lane(writer, _write, f"{path.stem} writer")
        self._reader = _Lane(reader, _read, f"{path.stem} reader")

    async def write(self, work: TransactionBody[T]) -> T:
        """Run `work` with those of its neighbours, and return when all are committed."""
        return await self._writer.run(work)

    async def read(self, work: TransactionBody[T]) -> T:
        """Run `work` beside the writer."""
        return await self._reader.run(work)

    async def read_inline(self, work: TransactionBody[T]) -> T:
        """Run `work` at once, in the caller's thread.

        While other threads compute, to go to one and back takes far longer than to read a row.
        """
        if self._closed:
            raise RuntimeError("the database is closed")
        try:
            with self._looker.begin() as connection:
                return work(connection)
        except sa.exc.OperationalError:
            # Another process may have the file to itself for a while; that is waited for there.
            return await self.read(work)

    def version(self) -> int | None:
        """Give a number that is another one after each commit, None if that cannot be seen now."""
        try:
            found: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None
        return found

    async def close(self) -> None:
        """Finish what has been asked for and end the threads."""
        self._closed = True
        self._looker.dispose()
        self._watch.close()
        try:
            await self._writer.close()
        finally:
            await self._reader.close()


class _Call(Generic[T]):
    """A work, what became of it, and a caller who waits for that."""

    def __init__(self, work: TransactionBody[T]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._work = work
        self._result: T
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def attempt(self, connection: sa.Connection) -> bool:
        """Run the work and tell whether it did not fail."""
        try:
            self._result = self._work(connection)
        except BaseException as error:  # noqa: BLE001 -- it is raised to the caller
            self._error = error
            return False
        return True

    def tell(self, error: BaseException | None) -> None:
        """Wake the caller; `error` is that of the whole transaction."""
        self._error = error or self._error
        if self._error is not None:
            self._traceback = self._error.__traceback__
        if not self.done.done():
            self.done.set_result(None)

    async def outcome(self) -> T:
        """Wait for the end of the transaction and give what the work gave, or raise its error."""
        await self.done
        if self._error is not None:
            # The error of a transaction is that of many callers, who would all lengthen it.
            raise self._error.with_traceback(self._traceback)
        return self._result


def _read(connection: sa.Connection, group: Sequence[_Call[Any]]) -> None:
    """Run works that only read: one that fails leaves nothing to undo."""
    for call in group:
        call.attempt(connection)


def _write(connection: sa.Connection, group: Sequence[_Call[Any]]) -> None:
    """Run works, each undone alone. Raises only what is the end of all of them."""
    # To the driver itself: through SQLAlchemy these words would cost more than many a work.
    driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    if len(group) == 1:
        # The transaction is its own, and a savepoint would copy each page that it changes.
        if not group[0].attempt(connection):
            driver.rollback()
        return
    say = driver.execute
    for call in group:
        say("SAVEPOINT work")
        if not call.attempt(connection):
            # This fails when SQLite has given up the whole transaction, as on a full disk.
            say("ROLLBACK TO work")
        say("RELEASE work")


Do = Callable[[sa.Connection, Sequence[_Call[Any]]], None]


class _Lane:
    """Runs works in one thread: what comes during one transaction goes into the next together."""

    def __init__(self, engine: sa.Engine, do: Do, name: str) -> None:
        self._engine = engine
        # Kept: to take one from the pool and to give it back costs more than many a work.
        self._connection: sa.Connection | None = None
        self._do = do
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: deque[_Call[Any]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, work: TransactionBody[T]) -> T:
        """Give what `work` gives. If the caller is cancelled before it begins, it never does."""
        if self._closed:
            raise RuntimeError("the database is closed")
        call = _Call(work)
        self._waiting.append(call)
        if self._running is None:
            # It begins after those who are about to ask in this turn of the loop.
            self._running = asyncio.create_task(self._run(), name="transactions")
        return await call.outcome()

    async def close(self) -> None:
        """Finish what has been asked for; when cancelled, only what has begun."""
        try:
            while self._running:
                await asyncio.wait({self._running})
        finally:
            self._closed = True
            for call in self._waiting:
                call.done.cancel()
            self._thread.shutdown()
            self._let_go()
            self._engine.dispose()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while group := self._next():
                error = await loop.run_in_executor(self._thread, self._transact, group)
                for call in group:
                    call.tell(error)
        finally:
            self._running = None

    def _next(self) -> list[_Call[Any]]:
        group: list[_Call[Any]] = []
        while self._waiting and len(group) < GROUP:
            call = self._waiting.popleft()
            if not call.done.cancelled():
                group.append(call)
        return group

    def _transact(self, group: list[_Call[Any]]) -> Exception | None:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                self._do(self._connection, group)
        except Exception as error:  # noqa: BLE001 -- it is raised to all callers
            self._let_go()
            is_raw = isinstance(error, sqlite3.Error)
            return sa.exc.OperationalError(None, None, error) if is_raw else error
        return None

    def _let_go(self) -> None:
        """Take another connection next time, whatever this one has come to."""
        if self._connection is not None:
            with suppress(sa.exc.SQLAlchemyError, sqlite3.Error):  # it may be past rolling back
                self._connection.close()
            self._connection = None


def _engine(path: Path, begin: str, *pragmas: str) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin by itself, late and deferred.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _prepare(path: Path) -> None:
    """Make the file, once, for readers beside a writer; the file remembers the mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Two processes that change the mode of a new file at once fail as "locked", whatever
        # the time-out. The end of the descriptor is the end of this lock.
        fcntl.flock(folder, fcntl.LOCK_EX)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    finally:
        os.close(folder)
