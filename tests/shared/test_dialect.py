"""What both databases are made to say alike."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared import dialect
from shared.database import Database

COUNTS = sa.Table(
    "counts",
    sa.MetaData(),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)


async def test_now_is_in_milliseconds(database_url: str | None, tmp_path: Path) -> None:
    """The database's time is a whole number of milliseconds, and goes on within a transaction."""
    (tmp_path / "migrations").mkdir()
    async with (
        Database.open("notes", database_url, tmp_path, tmp_path / "migrations") as database,
        database.writing() as connection,
    ):
        first = await connection.scalar(sa.select(dialect.now(connection)))
        begun = time.perf_counter()
        while time.perf_counter() < begun + 0.005:
            second = await connection.scalar(sa.select(dialect.now(connection)))

    assert first == pytest.approx(time.time() * 1000, abs=10_000)
    assert isinstance(second, int)
    assert second > first


async def test_an_insert_may_meet_its_row(database_url: str | None, tmp_path: Path) -> None:
    """One text adds to a row that is there and makes one that is not."""
    (tmp_path / "migrations").mkdir()
    async with (
        Database.open("notes", database_url, tmp_path, tmp_path / "migrations") as database,
        database.writing() as connection,
    ):
        await connection.run_sync(COUNTS.metadata.create_all)
        for _ in range(3):
            statement = dialect.insert(connection, COUNTS).values(name="a", count=2)
            added = COUNTS.c["count"] + statement.excluded["count"]
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"count": added})
            )
        rows = (await connection.execute(sa.select(COUNTS))).all()

    assert list(map(tuple, rows)) == [("a", 6)]
