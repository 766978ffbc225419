"""Fixtures: each test a database of its own, once in SQLite and once in PostgreSQL."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from ops import ports
from ops.postgres import PostgresAccount, PostgresError
from shared.storage.database import Database
from tests import postgres as servers

Opener = Callable[[str, Path], Awaitable[Database]]

_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_EMPTY = """
DO $$ DECLARE name text; BEGIN
    FOR name IN
        SELECT nspname FROM pg_namespace
        WHERE nspname <> 'information_schema' AND NOT starts_with(nspname, 'pg_')
    LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
    CREATE SCHEMA public;
END $$
"""


@pytest.fixture(scope="session")
def postgres(run_directory: Path) -> Iterator[str]:
    """Start a PostgreSQL of our own at its first use; the value is its administrator's URL.

    POSTGRES_URL names one to use instead. Without any the test is skipped with the reason.
    """
    if given := os.environ.get("POSTGRES_URL"):
        yield given
        return
    account = PostgresAccount(ports.unused(1)[0])
    try:
        server = servers.private(run_directory / "postgres", account)
    except PostgresError as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield account.url()
    finally:
        server.discard()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgres_database(postgres: str) -> AsyncIterator[str]:
    """Create a database for the tests of one module; the value is SQLAlchemy's URL of it."""
    name = f"test_{secrets.token_hex(4)}"
    await _execute(postgres, f"CREATE DATABASE {name}")
    yield f"{postgres.rpartition('/')[0]}/{name}"
    await _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def postgres_url(postgres_database: str) -> AsyncIterator[str]:
    """Empty the database of the module for one test; the value is SQLAlchemy's URL of it.

    Emptying one costs a tenth of making one.
    """
    yield postgres_database
    await _execute(postgres_database, _CUT_OFF, _EMPTY)


async def _execute(url: str, *statements: str) -> None:
    # No pool: a connection left open would outlive the test's event loop.
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    async with engine.connect() as administrator:
        for statement in statements:
            await administrator.exec_driver_sql(statement)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Run the test on both databases; the value is DATABASE_URL, None for SQLite's file."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def open_database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Opener]:
    """Open the tables of a service by its migrations, at each call as another replica does."""
    async with AsyncExitStack() as opened:
        yield lambda service, migrations: opened.enter_async_context(
            Database.open(service, database_url, tmp_path, migrations)
        )


def has_log(folder: Path) -> bool:
    """Return whether the log beside a SQLite file in a folder may have what was deleted."""
    return any(path.stat().st_size for path in folder.glob("*-wal"))


async def differences(database: Database, metadata: sa.MetaData) -> object:
    """Compare the tables that a store writes to with those that the migrations made."""
    return await database.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )
