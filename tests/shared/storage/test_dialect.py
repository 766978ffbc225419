"""What both databases are made to say alike."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.storage import dialect
from shared.storage.database import Database
from tests.databases import Opener

COUNTS = sa.Table(
    "counts",
    sa.MetaData(),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)


@pytest.fixture
async def database(open_database: Opener, tmp_path: Path) -> Database:
    """Open a database without tables."""
    (tmp_path / "migrations").mkdir()
    return await open_database("notes", tmp_path / "migrations")


async def test_now_is_in_milliseconds(database: Database) -> None:
    """The database's time is a whole number of milliseconds, and goes on within a transaction."""

    def two_times(connection: sa.Connection) -> tuple[int | None, int | None]:
        first = second = connection.scalar(sa.select(dialect.now(connection)))
        begun = time.perf_counter()
        while time.perf_counter() < begun + 0.005:
            second = connection.scalar(sa.select(dialect.now(connection)))
        return first, second

    first, second = await database.write(two_times)

    assert first == pytest.approx(time.time() * 1000, abs=10_000)
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert second > first


async def test_an_insert_may_meet_its_row(database: Database) -> None:
    """One text adds to a row that is there and makes one that is not."""

    def add_thrice(connection: sa.Connection) -> list[tuple[str, int]]:
        COUNTS.metadata.create_all(connection)
        for _ in range(3):
            statement = dialect.insert(connection, COUNTS).values(name="a", count=2)
            added = COUNTS.c["count"] + statement.excluded["count"]
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"count": added})
            )
        return [(row.name, row[1]) for row in connection.execute(sa.select(COUNTS))]

    assert await database.write(add_thrice) == [("a", 6)]


async def test_one_parameter_holds_many_rows(database: Database) -> None:
    """Whatever a text has in it, all rows of one parameter are inserted in one statement."""
    given = [("a", 1), ('"b", [c]', -(2**40)), ("\\d ü \u2028", 0)]

    def add_all(connection: sa.Connection) -> list[tuple[str, int]]:
        COUNTS.metadata.create_all(connection)
        rows = dialect.rows(connection, COUNTS.c.name, COUNTS.c["count"])
        statement = sa.insert(COUNTS).from_select(["name", "count"], sa.select(*rows.c))
        done = connection.execute(statement, {"rows": dialect.packed(given)})
        assert done.rowcount == len(given)
        return [(row[0], row[1]) for row in connection.execute(sa.select(COUNTS))]

    assert await database.write(add_all) == given


async def test_a_prepared_statement(database: Database) -> None:
    """It is made once and says the same each time, with its own constants and given values."""

    def ask_twice(connection: sa.Connection) -> list[object]:
        number: sa.BindParameter[int] = sa.bindparam("number", type_=sa.BigInteger)
        asking = dialect.Prepared(connection, sa.select((number + 1) * number))
        return [asking.run(connection, number=each).scalar() for each in (2, 10)]

    assert await database.write(ask_twice) == [6, 110]
