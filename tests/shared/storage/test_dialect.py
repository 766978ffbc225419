"""SQL that means the same to both databases."""

import json
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


async def test_now_is_not_ahead_of_the_clock(database: Database) -> None:
    """A part of a millisecond is cut off: what is due in this millisecond is due, never before."""

    def ahead(connection: sa.Connection) -> float:
        milliseconds = dialect.read_now(connection)
        if connection.dialect.name == "sqlite":
            return milliseconds - time.time() * 1000
        later = sa.select(sa.extract("epoch", sa.func.clock_timestamp()))
        return float(milliseconds - connection.execute(later).scalar_one() * 1000)

    found = await database.write(lambda c: [ahead(c) for _ in range(200)])

    assert max(found) <= 0


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


async def test_the_text_of_an_insert(database: Database) -> None:
    """Rows are inserted in parts; those that are there are replaced, or added to."""
    keep = dialect.insert_text(COUNTS, ("name", "count"), replace=("count",))
    add = dialect.insert_text(COUNTS, ("name",), {"count": "CAST($1 AS bigint)"}, add=("count",))
    names = [f"n{number:04}" for number in range(dialect.MAX_ROWS + 1)]

    def insert(connection: sa.Connection) -> list[tuple[str, int]]:
        COUNTS.metadata.create_all(connection)
        assert dialect.run(connection, keep, []) == []
        dialect.run(connection, keep, [(name, 1) for name in names])
        dialect.run(connection, keep, [(names[0], 5)])
        dialect.run(connection, add, [(names[0],), (names[1],), ("new",)], (7,))
        found = sa.select(COUNTS.c.name, COUNTS.c["count"]).where(COUNTS.c["count"] != 1)
        return [(name, count) for name, count in connection.execute(found.order_by(COUNTS.c.name))]

    assert await database.write(insert) == [("n0000", 12), ("n0001", 8), ("new", 7)]


TEXT = "INSERT INTO t SELECT column1, column2, $1 FROM $rows(text, bigint)"


def test_rows_are_parameters_of_sqlite() -> None:
    """Rows come after the single values, whichever stands first in the text."""
    text, parameters = dialect.for_sqlite(TEXT, (7,), [("a", 1)])

    assert text == "INSERT INTO t SELECT column1, column2, ?1 FROM (VALUES (?2, ?)) AS given"
    assert parameters == (7, "a", 1)


def test_rows_are_arrays_of_postgresql() -> None:
    """Rows are one array for each column, of its type."""
    text, parameters = dialect.for_postgresql(TEXT, (7,), [("a", 1), ("b", 2)])

    assert text == (
        "INSERT INTO t SELECT column1, column2, $1 FROM"
        " unnest(CAST($2 AS text[]), CAST($3 AS bigint[])) AS given(column1, column2)"
    )
    assert parameters == (7, ["a", "b"], [1, 2])


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 2), (17, 32), (dialect.MAX_ROWS - 1, dialect.MAX_ROWS)]
)
def test_there_are_few_texts(count: int, size: int) -> None:
    """The number of rows is rounded up with rows of NULL, so that SQLite compiles few texts."""
    text, parameters = dialect.for_sqlite(TEXT, (7,), [("a", 1)] * count)

    assert text.count("(?") == size
    assert parameters == (7, *("a", 1) * count, *(None, None) * (size - count))


def test_one_function_has_two_names() -> None:
    """The smaller of two is an aggregate's name in SQLite."""
    text = "SELECT $least(a, b), $greatest(a, b), $connection"

    assert dialect.for_sqlite(text, (), ())[0] == "SELECT min(a, b), max(a, b), 0"
    assert dialect.for_postgresql(text, (), ())[0] == (
        "SELECT least(a, b), greatest(a, b), pg_backend_pid()"
    )


def test_chunks_are_what_one_statement_takes() -> None:
    """A longer list of rows is split into statements, in its order."""
    items = range(2 * dialect.MAX_ROWS + 1)

    chunks = [*dialect.chunks(items)]

    assert [len(each) for each in chunks] == [dialect.MAX_ROWS, dialect.MAX_ROWS, 1]
    assert [number for each in chunks for number in each] == [*items]


async def test_a_prepared_statement_takes_many_rows(database: Database) -> None:
    """One statement inserts all its rows, whatever their texts have in them, beside a value."""
    rows = [("a", 1), ('"b", [c]', -(2**40)), ("\\d ü \u2028 $1 ?", 0)]

    def add_all(connection: sa.Connection) -> list[tuple[str, int]]:
        COUNTS.metadata.create_all(connection)
        given = dialect.rows(COUNTS.c.name, COUNTS.c["count"])
        more = given.c["count"] + sa.bindparam("more", type_=sa.BigInteger)
        insert = sa.insert(COUNTS).from_select(["name", "count"], sa.select(given.c.name, more))
        done = dialect.Prepared(connection, insert).run(connection, rows, more=1)
        assert done.rowcount == len(rows)
        return [(row[0], row[1]) for row in connection.execute(sa.select(COUNTS))]

    assert await database.write(add_all) == [(name, count + 1) for name, count in rows]


async def test_a_prepared_statement(database: Database) -> None:
    """A prepared statement keeps its constants and takes new values at each run."""

    def ask_twice(connection: sa.Connection) -> list[object]:
        number: sa.BindParameter[int] = sa.bindparam("number", type_=sa.BigInteger)
        asking = dialect.Prepared(connection, sa.select((number + 1) * number))
        return [asking.run(connection, number=each).scalar() for each in (2, 10)]

    assert await database.write(ask_twice) == [6, 110]


async def test_many_rows_come_as_one_text(database: Database) -> None:
    """A list for each row, in both databases; no row is an empty list."""
    text = """
        SELECT $json_rows(column1, column2) FROM $rows(text, bigint)
        WHERE column2 > CAST($1 AS bigint)
        """

    def found(connection: sa.Connection, limit: int) -> object:
        rows = [("a", 1), ("b", 2), ("c", 3)]
        return json.loads(dialect.execute(connection, text, (limit,), rows).scalar_one())

    assert await database.read(lambda connection: found(connection, 1)) == [["b", 2], ["c", 3]]
    assert await database.read(lambda connection: found(connection, 9)) == []
