"""A SQLite file: a thread that writes, and a thread that reads beside it."""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

BUSY_SECONDS = 5  # that a writer waits for the transaction of another process
CHECKPOINT_RETRY_SECONDS = 0.01
OWNER_ALONE = 0o600  # the mode of a new file, which SQLite takes for the log beside it
# The log is written back at the commit that brings it to 128 MB: a page that many commits change
# goes into the file itself once for all of them.
LOG_PAGES = 32_000
# Compiled texts that a connection keeps. A statement with rows has one for each power of two, and
# the 128 that are Python's default are fewer than a service has.
MAX_COMPILED_TEXTS = 256
# Large batches of rows that are far apart change half as much in one transaction; what does not fit
# is written to the log early, and read again.
BATCHES_CACHE_KIBIBYTES = 64 << 10
CACHE_KIBIBYTES = 2 << 10  # of the file that the writer keeps in memory; about SQLite's default

T = TypeVar("T")
TransactionBody = Callable[[sa.Connection], T]


class SqliteDatabase:
    """The tables of one service in one file."""

    def __init__(self, path: Path, cache: int = CACHE_KIBIBYTES) -> None:
        _prepare(path)
        self._path = path
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
            # A copy of each page that a statement changes, to undo it: no file for that.
            "temp_store=MEMORY",
            "secure_delete=ON",  # Debian's default: zeros in the place of what is deleted
        )
        reader = _engine(path, "BEGIN", "query_only=ON")
        # It runs in the loop, which has more to do than wait for another process.
        self._inline = _engine(path, "BEGIN", "query_only=ON", "busy_timeout=0")
        self._watch = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._closed = False
        self._writer = _Transactions(writer, f"{path.stem} writer")
        self._reader = _Transactions(reader, f"{path.stem} reader")

    async def write(self, body: TransactionBody[T]) -> T:
        """Run `body` in a transaction, after those that came before it."""
        return await self._writer.run(body)

    async def read(self, body: TransactionBody[T]) -> T:
        """Run `body` beside the writer."""
        return await self._reader.run(body)

    async def read_inline(self, body: TransactionBody[T]) -> T:
        """Run `body` at once, in the caller's thread.

        While other threads compute, a change to one and back takes far longer than reading a row.
        """
        if self._closed:
            raise RuntimeError("the database is closed")
        try:
            with self._inline.begin() as connection:
                return body(connection)
        except sa.exc.OperationalError:
            # Another process may have the file to itself for a while; that is waited for there.
            return await self.read(body)

    async def empty_log(self) -> None:
        """Write the log back into the file and empty it: it has rows that were deleted since.

        Raises OSError if a reader needs the log for longer than BUSY_SECONDS.
        """
        await self._writer.run_between(partial(_empty_log, self._path))

    def glance(self, query: str) -> int | None:
        """Return the number that a query finds, None if it cannot be read now."""
        try:
            [(found,)] = self._watch.execute(query).fetchall()
        except sqlite3.Error:
            return None
        return int(found)

    async def close(self) -> None:
        """Finish the transactions asked for and end the threads."""
        self._closed = True
        self._inline.dispose()
        self._watch.close()
        try:
            await self._writer.close()
        finally:
            await self._reader.close()


class _Transactions:
    """Runs transactions in a thread of its own, one after the other."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        # Kept: taking one from the pool and returning it costs more than many transactions.
        self._connection: sa.Connection | None = None
        self._thread = ThreadPoolExecutor(1, name)
        self._closed = False

    async def run(self, body: TransactionBody[T]) -> T:
        """Return what `body` returns, once that is committed.

        A body whose caller is cancelled before it begins never runs.
        """
        return await self.run_between(partial(self._run, body))

    async def run_between(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, which runs in the thread between two transactions."""
        if self._closed:
            raise RuntimeError("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Finish all transactions asked for; when cancelled, only the one that has begun."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._disconnect)
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._disconnect()
            self._engine.dispose()

    def _run(self, body: TransactionBody[T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                return body(self._connection)
        except StopIteration as error:  # no future may raise it
            self._disconnect()
            raise RuntimeError("a transaction raised StopIteration") from error
        except BaseException:
            # The next transaction takes another connection, whatever has become of this one.
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sa.exc.SQLAlchemyError, sqlite3.Error):  # it may be past rolling back
                self._connection.close()
            self._connection = None


def _engine(path: Path, begin: str, *pragmas: str) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    settings = {"timeout": BUSY_SECONDS, "cached_statements": MAX_COMPILED_TEXTS}
    engine = sa.create_engine(url, hide_parameters=True, connect_args=settings)

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
    """Make the file and set its mode, in which readers do not wait for a writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Two processes that change the mode of a new file at once fail as "locked", whatever
        # the time-out. The end of the descriptor is the end of this lock.
        fcntl.flock(folder, fcntl.LOCK_EX)
        path.touch(OWNER_ALONE)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    finally:
        os.close(folder)


def _empty_log(path: Path) -> None:
    give_up = time.monotonic() + BUSY_SECONDS
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        # It waits for readers and writers by itself, but for no other checkpoint.
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() >= give_up:
                raise OSError(f"{path}: a reader needs the log, which has rows that were deleted")
            time.sleep(CHECKPOINT_RETRY_SECONDS)
