"""What SQLite and PostgreSQL say in different words, so that a store has one text for both."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

MILLISECONDS = 1000  # in a second: the unit of every time that a store keeps
_UNIX_EPOCH = 2_440_587.5  # as a Julian day
_DAY = 86_400 * MILLISECONDS

Clock = Callable[[sa.Connection], sa.ColumnElement[int]]
Insert = sqlite.Insert | postgresql.Insert


def now(connection: sa.Connection) -> sa.ColumnElement[int]:
    """Give the database's time, in milliseconds since 1970, as it is when a statement runs.

    Replicas share the clock of a PostgreSQL server. A SQLite file has the clock of this machine,
    which is the only one that can use the file.
    """
    if connection.dialect.name == "sqlite":
        return sa.cast((sa.func.julianday("now") - _UNIX_EPOCH) * _DAY, sa.BigInteger)
    # Not now(): that is when the transaction began, perhaps before a long wait for a lock.
    seconds = sa.extract("epoch", sa.func.clock_timestamp())
    return sa.cast(seconds * MILLISECONDS, sa.BigInteger)


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """Give an insert that knows `ON CONFLICT`, which SQLAlchemy has once for each dialect."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


class Prepared:
    """A statement in the words of one database, for a statement that is said all the time.

    SQLAlchemy looks a large one up at each use for longer than SQLite takes to run it. Values and
    results are those of the driver.
    """

    def __init__(self, connection: sa.Connection, statement: sa.ClauseElement) -> None:
        compiled: SQLCompiler = cast("Any", statement.compile(dialect=connection.dialect))
        self._compiled = compiled
        self._names: Sequence[str] = self._compiled.positiontup or ()

    def run(self, connection: sa.Connection, **values: object) -> sa.CursorResult[Any]:
        """Execute it with the values of its parameters. Raises SQLAlchemyError."""
        given = self._compiled.construct_params(values)
        return connection.exec_driver_sql(
            self._compiled.string, tuple(given[name] for name in self._names)
        )


def rows(connection: sa.Connection, *columns: sa.Column[Any]) -> sa.Subquery:
    """Give the rows of the parameter `rows`, made by `packed`, with columns of these names.

    A statement that runs once for each row takes Python's lock, or a message to the server, as
    often.
    """
    given: sa.BindParameter[str] = sa.bindparam("rows", type_=sa.Text)
    if connection.dialect.name == "sqlite":
        row = sa.func.json_each(given).table_valued("value").c.value
        cells = [sa.func.json_extract(row, f"$[{place}]") for place in range(len(columns))]
    else:
        each = sa.func.jsonb_array_elements(sa.cast(given, postgresql.JSONB))
        row = each.table_valued(sa.column("value", postgresql.JSONB)).c.value
        cells = [row[place].astext for place in range(len(columns))]
    named = zip(cells, columns, strict=True)
    return sa.select(
        *(sa.cast(cell, column.type).label(column.name) for cell, column in named)
    ).subquery("given")


def packed(rows: Sequence[Sequence[str | int | bool | None]]) -> str:
    """Return rows in the form that `rows` takes.

    Raises OverflowError for a value that no row can hold: an integer of more than 64 bits, or a
    text that is no Unicode.
    """
    try:
        return orjson.dumps(rows).decode()
    except orjson.JSONEncodeError as error:
        raise OverflowError(str(error)) from error
