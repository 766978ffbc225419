"""What SQLite and PostgreSQL say in different words, so that a store has one text for both."""

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

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
