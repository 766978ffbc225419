"""One engine from a URL: SQLite by default, PostgreSQL when asked; schemas migrated at start."""

import asyncio
import fcntl
import os
import sqlite3
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any, Self

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_SECONDS = 5  # SQLite: how long a writer waits for the transaction of another process
POOL_SIZE = 5  # connections to PostgreSQL a service
HERE = Path(__file__).parent
READ_ONLY = "postrider_read_only"


class Database:
    """A service's tables: a SQLite file of its own, or a schema of its own in PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # SQLite has one writer. Waiting for it here is a queue; waiting there is polling.
        self._writer: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, service: str, url: str | None, data_dir: Path, migrations: Path
    ) -> AsyncIterator[Self]:
        """Open the tables of `service`, at the newest version of the folder `migrations`.

        Without a URL they are a file in `data_dir`. Raises OSError when they cannot be reached.
        """
        with _told_as_oserror(service):
            engine = _sqlite(data_dir, service) if url is None else _postgresql(url, service)
        try:
            with _told_as_oserror(service):
                await _migrate(engine, service, migrations)
            yield cls(engine)
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction that may write; it is committed when the block ends well."""
        async with self._writer, self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction that only reads; it never waits for a writer."""
        async with self._engine.connect() as connection:
            yield await connection.execution_options(**{READ_ONLY: True})

    async def ready(self) -> bool:
        """Tell whether the database answers."""
        try:
            async with self.reading() as connection:
                await connection.execute(sa.select(1))
        except (OSError, sa.exc.SQLAlchemyError):
            return False
        return True


def _sqlite(data_dir: Path, service: str) -> AsyncEngine:
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / f"{service}.sqlite"
    _prepare(path)
    url = sa.URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 -- the driver's
        # The driver would begin late and deferred, see `begin`.
        connection.isolation_level = None
        cursor = connection.cursor()
        # An acknowledgement rests on the commit: NORMAL may lose the last ones at a power cut.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that begins to write while another process does fails at once
        # as "locked", whatever the time-out; an immediate one waits its turn.
        reads = connection.get_execution_options().get(READ_ONLY)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _prepare(path: Path) -> None:
    """Make the file, once, for readers beside a writer; the file remembers the mode.

    What is wrong with the file is seen here. The driver would leave a thread behind, which
    complains when the loop is gone.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Two processes that change the mode of a new file at once fail as "locked", whatever
        # the time-out. The end of the descriptor is the end of this lock.
        fcntl.flock(folder, fcntl.LOCK_EX)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    finally:
        os.close(folder)


def _postgresql(url: str, service: str) -> AsyncEngine:
    """Give an engine that sees the schema of `service` alone."""
    return create_async_engine(
        url,
        hide_parameters=True,
        pool_size=POOL_SIZE,
        pool_pre_ping=True,  # a server that was restarted costs a reconnect, not an error
        connect_args={"server_settings": {"search_path": service}},
    )


@contextmanager
def _told_as_oserror(service: str) -> Iterator[None]:
    """Say in one line whose database it is and why; the drivers raise many things."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise OSError(f"the database of {service}: {error.orig}") from error
    except (OSError, sqlite3.Error) as error:
        raise OSError(f"the database of {service}: {error}") from error


async def _migrate(engine: AsyncEngine, service: str, migrations: Path) -> None:
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Replicas start together: one migrates, the others wait and find it done.
            lock = sa.func.pg_advisory_xact_lock(zlib.crc32(service.encode()))
            await connection.execute(sa.select(lock))
            await connection.execute(sa.schema.CreateSchema(service, if_not_exists=True))
        await connection.run_sync(_upgrade, migrations)


def _upgrade(connection: Connection, migrations: Path) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(HERE / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
