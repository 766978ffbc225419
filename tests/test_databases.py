"""The fixtures of databases, and their servers."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ops import docker, ports
from ops.postgres import PostgresAccount
from tests.postgres import PostgresContainer


@pytest.mark.postgres
async def test_a_test_gets_a_database_of_its_own(postgres_url: str) -> None:
    """No test sees what another one writes."""
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        name = await connection.scalar(sa.text("SELECT current_database()"))
        tables = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await engine.dispose()

    assert name == sa.make_url(postgres_url).database
    assert tables == []


async def test_the_same_test_runs_on_both_databases(database_url: str | None) -> None:
    """A store test runs on SQLite and on PostgreSQL."""
    assert database_url is None or database_url.startswith("postgresql+asyncpg://")


@pytest.mark.container
async def test_a_database_in_a_container_serves(tmp_path: Path) -> None:
    """Store tests run in a container as on the server of the machine."""
    if not docker.answers():
        pytest.skip("no Docker engine answers")
    server = PostgresContainer(tmp_path, PostgresAccount(ports.unused(1)[0]))
    server.start()
    try:
        engine = create_async_engine(server.account.url())
        async with engine.connect() as connection:
            answer = await connection.scalar(sa.select(1))
        await engine.dispose()
    finally:
        server.discard()

    assert answer == 1
