"""A PostgreSQL of our own."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine


@pytest.mark.postgres
async def test_a_test_gets_a_database_of_its_own(postgres_url: str) -> None:
    """What one test writes, no other sees."""
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        name = await connection.scalar(sa.text("SELECT current_database()"))
        tables = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await engine.dispose()

    assert name == sa.make_url(postgres_url).database
    assert tables == []


async def test_the_same_test_runs_on_both_databases(database_url: str | None) -> None:
    """A store test says nothing about the database it runs on."""
    assert database_url is None or database_url.startswith("postgresql+asyncpg://")
