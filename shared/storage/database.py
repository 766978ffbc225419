"""A service's tables in SQLite or PostgreSQL, with the schema migrated at the start."""

import asyncio
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import sqlalchemy as sa

from shared.config.url import masked_hosts
from shared.errors import DatabaseAway, NewerTables, Reject
from shared.runtime.outage import Outage, described
from shared.storage import dialect, sqlite, versions
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock
from shared.storage.postgres import PostgresDatabase, is_away, sqlstate

START_SECONDS = 30.0  # to wait for a server that is still starting
RECONNECT_SECONDS = 1.0
ASK_SECONDS = 10.0  # between two looks; a steady clock drifts by less than a millisecond
_URL_VARIABLE = "DATABASE_URL"
_ADVICE = {
    "28P01": f"check user and password in {_URL_VARIABLE}",
    "28000": f"check the user in {_URL_VARIABLE}, and pg_hba.conf of the server",
    "3D000": f"make the database, or check the path of {_URL_VARIABLE}",
    "42501": "grant the user CREATE on the database: see ops/roles.sql",
}
# Classes of SQLSTATE (PostgreSQL, appendix A): data exception, cardinality violation.
_VALUE_STATES = ("22", "21")

T = TypeVar("T")


class Database:
    """A service's tables: a SQLite file of its own, or a schema of its own in PostgreSQL.

    The body of a transaction is a plain function of a connection, `work`. It executes statements
    and waits for nothing else: while it runs, other transactions may have to wait. It returns
    values or rows, not a result that is still to be read.
    """

    def __init__(self, transactions: sqlite.SqliteDatabase | PostgresDatabase) -> None:
        self._transactions = transactions

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        service: str,
        url: str | None,
        data_dir: Path,
        migrations: Path,
        *,
        cache: int = sqlite.CACHE_KIBIBYTES,
    ) -> AsyncIterator[Self]:
        """Open the tables of `service`, at the newest version of the folder `migrations`.

        Without a URL they are a file in `data_dir`, of which the writer keeps `cache` kibibytes in
        memory. Waits up to START_SECONDS for a server that is away or still starting. Raises
        OSError if the tables cannot be reached, NewerTables if they are of a later version.
        Transactions under way are finished at the end.
        """
        file = data_dir / f"{service}.sqlite"
        where = str(file) if url is None else masked_hosts(url)
        with _as_oserror(service, where):
            transactions = (
                sqlite.SqliteDatabase(file, cache)
                if url is None
                else PostgresDatabase(url, service)
            )
        try:
            migrate = partial(_migrate, service=service, folder=migrations)
            with _as_oserror(service, where):
                patience = 0.0 if url is None else START_SECONDS
                await _waiting(lambda: transactions.write(migrate), where, patience)
            yield cls(transactions)
        finally:
            await transactions.close()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once that is committed.

        Raises what `work` raises, and then rolls back. Raises SQLAlchemyError or OSError if it
        could not commit; if the connection was lost at that moment, it may have committed. The
        same holds for a cancelled caller: a cancellation is no rollback.
        """
        return await self._transactions.write(work)

    async def write_all(self, work: Callable[[sa.Connection], int]) -> int:
        """Run `work`, which changes a piece of some rows, until none is left; return how many.

        Each piece is a transaction, so that others have their turn. Raises as `write` does.
        """
        changed = 0
        while rows := await self.write(work):
            changed += rows
        return changed

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction that only reads, and never waits for a writer.

        It sees all that was committed before the call. Raises what `work` raises.
        """
        return await self._transactions.read(work)

    async def read_inline(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` like `read`, if it only reads a few rows by their keys.

        It may block the event loop, for less time than handing it to a thread would take.
        """
        return await self._transactions.read_inline(work)

    async def empty_log(self) -> None:
        """Empty the log beside a file, so that what was deleted is on no disk any more.

        Call it after rows with personal data were deleted. Raises OSError if a reader of the file
        prevents it; the next call repeats it.
        """
        await self._transactions.empty_log()

    def glance(self, query: str) -> int | None:
        """Return the number that a query finds in a file, in some 5 µs; None of a server.

        By a number that changes with certain rows, a caller knows whether to read them again. It is
        also None while the file cannot be read.
        """
        return self._transactions.glance(query)

    async def ready(self) -> bool:
        """Return whether the database answers."""
        try:
            await self.read(lambda connection: connection.execute(sa.select(1)))
        except (OSError, sa.exc.SQLAlchemyError):
            return False
        return True


class HandlerDatabase(Database):
    """The same tables for the stores of handlers: see `as_handler_errors`."""

    def __init__(self, database: Database, tables: str, seconds: float | None = None) -> None:
        super().__init__(database._transactions)  # noqa: SLF001 -- of the same class
        self._tables = tables
        self._seconds = seconds  # for a transaction; a handler's own limit counts if None

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` as `Database.write` does. Raises Retry or Reject."""
        with as_handler_errors(self._tables):
            async with asyncio.timeout(self._seconds):
                return await super().write(work)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` as `Database.read` does. Raises Retry or Reject."""
        with as_handler_errors(self._tables):
            async with asyncio.timeout(self._seconds):
                return await super().read(work)

    async def read_inline(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` as `Database.read_inline` does. Raises Retry or Reject."""
        with as_handler_errors(self._tables):
            return await super().read_inline(work)

    async def empty_log(self) -> None:
        """Empty the log as `Database.empty_log` does. Raises Retry."""
        with as_handler_errors(self._tables):
            await super().empty_log()


class DatabaseClock:
    """A database's time: asked for now and then, and counted on with a clock that never jumps.

    So the age of nothing is wrong on a host whose own clock is wrong or is corrected.
    """

    def __init__(
        self,
        database: Database,
        steady: Callable[[], float] = time.monotonic,
        clock: Clock = dialect.now,
    ) -> None:
        self._database = database
        self._steady = steady
        self._clock = clock
        self._begin = 0.0  # of the steady clock, in seconds since 1970 by the database's

    async def ask(self) -> None:
        """Ask the database for its time; do it before the first use. Raises OSError.

        Every ASK_SECONDS is often enough. After a failure the time goes on as before.
        """
        begun = self._steady()
        try:
            found = await self._database.read(lambda c: dialect.read_now(c, self._clock))
        except sa.exc.SQLAlchemyError as error:
            raise OSError(f"the time of the database: {type(error).__name__}") from error
        # The database looked at its clock at some moment between the two.
        self._begin = found / MILLISECONDS_PER_SECOND - (begun + self._steady()) / 2

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self._begin + self._steady(), UTC)


async def _waiting(work: Callable[[], Awaitable[object]], where: str, patience: float) -> None:
    """Run the first transaction, and repeat it while the server is away."""
    outage = Outage("the database", where, _URL_VARIABLE)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    while True:
        try:
            await work()
        except (OSError, sa.exc.DBAPIError) as error:
            if not is_away(error) or loop.time() >= give_up:
                raise
            outage.log(_cause(error))
            await asyncio.sleep(RECONNECT_SECONDS)
        else:
            return


def _cause(error: Exception) -> Exception:
    """Return the driver's own error: SQLAlchemy puts two others around it."""
    if not isinstance(error, sa.exc.DBAPIError):
        return error
    return error.orig.__cause__ or error.orig  # type: ignore[return-value,union-attr] # never None


@contextmanager
def as_handler_errors(tables: str) -> Iterator[None]:
    """Turn an error of the database into one of a handler, whose text begins with `tables`.

    Raises Reject if the database cannot hold a value, since no repetition changes that, and
    DatabaseAway, which is a Retry, if it is away. IntegrityError stays: rows may contradict each
    other for a moment.
    """
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except (OverflowError, UnicodeError, OSError, sa.exc.SQLAlchemyError) as error:
        if _refuses_a_value(error):
            raise Reject(f"{tables} cannot hold a value: {type(error).__name__}") from error
        raise DatabaseAway(f"{tables} cannot be reached: {type(error).__name__}") from error


def _refuses_a_value(error: Exception) -> bool:
    """Return whether the database refuses a value, not the statement."""
    refused = isinstance(error, OverflowError | UnicodeError | sa.exc.DataError)
    return refused or sqlstate(error)[:2] in _VALUE_STATES


@contextmanager
def _as_oserror(service: str, where: str) -> Iterator[None]:
    """Raise an OSError of one line: service, address, reason and advice."""
    try:
        yield
    except NewerTables as error:
        raise NewerTables(f"the database of {service}, {where}: {error}") from None
    except (OSError, sqlite3.Error, sa.exc.DBAPIError) as error:
        text = f"the database of {service}, {where}: {described(_cause(error))}"
        raise OSError(f"{text}{_advice(error, where)}") from error


async def check_server(url: str) -> None:
    """Raise an OSError of one line unless the server at an address lets us in, and takes writes."""
    where = masked_hosts(url)
    with _as_oserror("the services", where):
        server = PostgresDatabase(url, "postrider")
        try:
            await server.read(lambda connection: connection.execute(sa.select(1)).scalar_one())
        finally:
            await server.close()


def _advice(error: Exception, where: str) -> str:
    if "://" not in where:
        return "; check DATA_DIR, its mode and its disk"
    if isinstance(error, sa.exc.DBAPIError):
        advice = _ADVICE.get(sqlstate(error))
        return f"; {advice}" if advice else ""
    return f"; {Outage('the database', where, _URL_VARIABLE).advice(error)}"


def _migrate(connection: sa.Connection, service: str, folder: Path) -> None:
    if connection.dialect.name == "postgresql":
        # Replicas start together: one migrates, the others wait and find it done.
        lock = sa.func.pg_advisory_xact_lock(zlib.crc32(service.encode()))
        connection.execute(sa.select(lock))
        connection.execute(sa.schema.CreateSchema(service, if_not_exists=True))
    versions.upgrade(connection, folder)
