"""SQL for SQLite and PostgreSQL: one text of a statement for both, for any number of rows.

A statement costs much, a row in it little, so one statement carries up to MAX_ROWS rows. To SQLite
they are parameters in VALUES, to PostgreSQL an array for each column; both hold bytes, as JSON does
not.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

MILLISECONDS_PER_SECOND = 1000  # stores keep times in milliseconds since 1970
MAX_ROWS: Final = 1024  # of one statement: SQLite compiles longer ones far slower
_UNIX_EPOCH = 2_440_587.5  # as a Julian day
_DAY_MILLISECONDS = 86_400 * MILLISECONDS_PER_SECOND

Clock = Callable[[sa.Connection], sa.ColumnElement[int]]
Insert = sqlite.Insert | postgresql.Insert
Row = Sequence[Any]
T = TypeVar("T")

_POSTGRESQL_DIALECT: Final[sa.Dialect] = cast("Any", postgresql).dialect()
_ROWS: Final = re.compile(r"\$rows\(([^)]*)\)")
_JSON_ROWS: Final = re.compile(r"\$json_rows\(([^)]*)\)")
_VALUE: Final = re.compile(r"\$(\d+)")
_SQLITE: Final[Mapping[str, str]] = {
    "$least": "min",
    "$greatest": "max",
    "$connection": "0",
    "$": "?",
}
_POSTGRESQL: Final[Mapping[str, str]] = {
    "$least": "least",
    "$greatest": "greatest",
    "$connection": "pg_backend_pid()",
}


def now(connection: sa.Connection) -> sa.ColumnElement[int]:
    """Return the database's time, in milliseconds since 1970, as it is when a statement runs.

    Replicas share the clock of a PostgreSQL server. A SQLite file has the clock of this machine,
    which is the only one that can use the file.
    """
    if connection.dialect.name == "sqlite":
        return sa.cast((sa.func.julianday("now") - _UNIX_EPOCH) * _DAY_MILLISECONDS, sa.BigInteger)
    # Not now(): that is when the transaction began, perhaps before a long wait for a lock.
    seconds = sa.extract("epoch", sa.func.clock_timestamp())
    # A cast alone rounds, by which the time would be ahead of itself.
    return sa.cast(sa.func.floor(seconds * MILLISECONDS_PER_SECOND), sa.BigInteger)


def read_now(connection: sa.Connection, clock: Clock = now) -> int:
    """Return the time of the database, in milliseconds since 1970."""
    found: int = connection.execute(sa.select(clock(connection))).scalar_one()
    return found


def lock(connection: sa.Connection, number: int, *, alone: bool) -> None:
    """Wait for a lock of the database, which the transaction has until its end.

    Any number of transactions share it, or one has it `alone`. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        wait = sa.func.pg_advisory_xact_lock if alone else sa.func.pg_advisory_xact_lock_shared
        connection.execute(sa.select(wait(sa.literal(number, sa.BigInteger))))


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """Return an insert that knows `ON CONFLICT`, which SQLAlchemy has once for each dialect."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def execute(
    connection: sa.Connection, text: str, values: Sequence[Any] = (), rows: Sequence[Row] = ()
) -> sa.CursorResult[Any]:
    """Execute a text with values and at most MAX_ROWS rows. Raises SQLAlchemyError.

    In the text, `$1` and so on are the values. `$rows(text, bigint)` is a table of the rows, whose
    columns have these types of PostgreSQL and the names `column1`, `column2` and so on. Some rows
    of it are all NULL, to be left out by `WHERE column1 IS NOT NULL`. `$least` and `$greatest`
    are functions; `$connection` is a number that differs between connections that write at once.
    `$json_rows(a, b)` is one JSON text of a list for each row that was found.
    Values and results are those of the driver.
    """
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(*for_sqlite(text, values, rows))
    return connection.exec_driver_sql(*for_postgresql(text, values, rows))


def for_sqlite(
    text: str, values: Sequence[Any], rows: Sequence[Row]
) -> tuple[str, tuple[Any, ...]]:
    """Return a text and its parameters for SQLite."""
    # Each connection keeps the texts compiled, so there are few: rows of NULL fill them up.
    size = 1 << max(len(rows) - 1, 0).bit_length()
    missing = (None,) * (len(rows[0]) * (size - len(rows)) if rows else 0)
    return _sqlite_text(text, size), (*values, *chain.from_iterable(rows), *missing)


def for_postgresql(
    text: str, values: Sequence[Any], rows: Sequence[Row]
) -> tuple[str, tuple[Any, ...]]:
    """Return a text and its parameters for PostgreSQL."""
    return _postgresql_text(text), (*values, *map(list, zip(*rows, strict=True)))


@lru_cache(maxsize=1024)
def _sqlite_text(text: str, size: int) -> str:
    def table(types: re.Match[str]) -> str:
        row = f"({', '.join('?' * len(types[1].split(',')))})"
        # The first has the next free number, whichever parameter stands first in the text.
        numbered = row.replace("?", f"?{_value_count(text) + 1}", 1)
        return f"(VALUES {', '.join([numbered, *[row] * (size - 1)])}) AS given"

    text = _JSON_ROWS.sub(r"json_group_array(json_array(\1))", text)
    return _replaced(_ROWS.sub(table, text), _SQLITE)


@lru_cache
def _postgresql_text(text: str) -> str:
    def table(types: re.Match[str]) -> str:
        places = [*enumerate(types[1].split(","), 1)]
        count = _value_count(text)
        arrays = (f"CAST(${count + place} AS {each.strip()}[])" for place, each in places)
        names = (f"column{place}" for place, _ in places)
        return f"unnest({', '.join(arrays)}) AS given({', '.join(names)})"

    json = r"CAST(COALESCE(json_agg(json_build_array(\1)), '[]') AS text)"
    return _replaced(_ROWS.sub(table, _JSON_ROWS.sub(json, text)), _POSTGRESQL)


def _value_count(text: str) -> int:
    return max(map(int, _VALUE.findall(text)), default=0)


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def run(
    connection: sa.Connection, text: str, rows: Sequence[Row], values: Sequence[Any] = ()
) -> Sequence[sa.Row[Any]]:
    """Execute a text with any number of rows, if there is one; return the rows that it returns."""
    found: list[sa.Row[Any]] = []
    for chunk in chunks(rows):
        result = execute(connection, text, values, chunk)
        found += result.all() if result.returns_rows else ()
    return found


def insert_text(
    table: sa.Table,
    names: Sequence[str],
    fixed: Mapping[str, str] = MappingProxyType({}),
    *,
    replace: Sequence[str] = (),
    add: Sequence[str] = (),
) -> str:
    """Return the text that inserts rows of the columns `names`, and `fixed` texts into others.

    Of a row whose key is there it replaces some columns, and adds to the numbers in others.
    """
    columns = ", ".join((*names, *fixed))
    values = ", ".join((*(f"column{place}" for place, _ in enumerate(names, 1)), *fixed.values()))
    rows = f"$rows({_types(table.c[name] for name in names)}) WHERE column1 IS NOT NULL"
    text = f"INSERT INTO {table.name} ({columns}) SELECT {values} FROM {rows}"  # noqa: S608 -- of a table's names
    changes = [f"{name} = excluded.{name}" for name in replace]
    changes += [f"{name} = {table.name}.{name} + excluded.{name}" for name in add]
    key = ", ".join(each.name for each in table.primary_key)
    return f"{text} ON CONFLICT ({key}) DO UPDATE SET {', '.join(changes)}" if changes else text


def _types(columns: Iterable[sa.Column[Any]]) -> str:
    return ", ".join(each.type.compile(_POSTGRESQL_DIALECT) for each in columns)


def rows(*columns: sa.Column[Any]) -> sa.Subquery:
    """Return the rows of a `Prepared` statement, with columns of these names and types.

    The first column of a row must not be NULL.
    """
    named = [
        sa.column(f"column{place}", each.type).label(each.name)
        for place, each in enumerate(columns, 1)
    ]
    given = sa.table(sa.quoted_name(f"$rows({_types(columns)})", quote=False))
    return sa.select(*named).select_from(given).where(named[0].is_not(None)).subquery("rows")


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield parts of at most MAX_ROWS items."""
    for start in range(0, len(items), MAX_ROWS):
        yield items[start : start + MAX_ROWS]


class Prepared:
    """A statement of SQLAlchemy as a text, for a statement that is executed all the time.

    SQLAlchemy looks a large one up at each use for longer than SQLite takes to run it.
    """

    def __init__(self, connection: sa.Connection, statement: sa.ClauseElement) -> None:
        numbered = cast("Any", type(connection.dialect))(paramstyle="numeric_dollar")
        self._compiled: SQLCompiler = cast("Any", statement.compile(dialect=numbered))
        self._names: Sequence[str] = self._compiled.positiontup or ()

    def run(
        self, connection: sa.Connection, rows: Sequence[Row] = (), **values: object
    ) -> sa.CursorResult[Any]:
        """Execute it with at most MAX_ROWS rows and the values of its parameters, see `execute`."""
        given = self._compiled.construct_params(values)
        return execute(
            connection, self._compiled.string, [given[name] for name in self._names], rows
        )
