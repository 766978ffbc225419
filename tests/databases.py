"""Fixtures: each test a database of its own, once in SQLite and once in PostgreSQL."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ops import ports
from ops import postgres as servers


@pytest.fixture(scope="session")
def postgres(run_directory: Path) -> Iterator[str]:
    """Start a PostgreSQL of our own at its first use; the value is its administrator's URL.

    POSTGRES_URL names one to use instead. Without any the test is skipped with the reason.
    """
    if given := os.environ.get("POSTGRES_URL"):
        yield given
        return
    account = servers.Account(ports.unused(1)[0])
    try:
        server = servers.private(run_directory / "postgres", account)
    except servers.PostgresError as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield account.url()
    finally:
        server.discard()


@pytest.fixture
async def postgres_url(postgres: str) -> AsyncIterator[str]:
    """Create a database for one test; the value is SQLAlchemy's URL of it."""
    name = f"test_{secrets.token_hex(4)}"
    # No pool: a connection left open would outlive the test's event loop.
    engine = create_async_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    async with engine.connect() as administrator:
        await administrator.execute(sa.text(f"CREATE DATABASE {name}"))
    yield f"{postgres.rpartition('/')[0]}/{name}"
    async with engine.connect() as administrator:
        await administrator.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Run the test on both databases; the value is DATABASE_URL, None for SQLite's file."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url
