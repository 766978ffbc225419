"""The daily parts of the history on PostgreSQL: made ahead, and forgotten by dropping a table.

SQLite has no such parts. There the history is ordered by the time of acceptance, so that its oldest
rows are neighbours, and pages without rows are used again.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from services.ledger.mails import DAY_MILLISECONDS, first_number
from shared.storage.database import Database

DAYS_AHEAD = 7  # a ledger that was away for so long still has a part for today

_LOCK = 0x6C6564676572  # of this work alone, among all advisory locks of the database
_PARTS = sa.text(
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = CAST('history' AS regclass)"
)
_IN_DEFAULT = sa.text(
    "SELECT EXISTS (SELECT FROM history_default WHERE message >= :first AND message < :next)"
)
_NAME = re.compile(r"history_(\d+)")


class HistoryPart(NamedTuple):
    """The part of one day: days since 1970 in UTC."""

    day: int

    @property
    def name(self) -> str:
        """The name of its table."""
        return f"history_{self.day}"

    @property
    def first(self) -> int:
        """The smallest number of its mails."""
        return first_number(self.day * DAY_MILLISECONDS)

    @property
    def next(self) -> int:
        """The smallest number of the mails of the next part."""
        return first_number((self.day + 1) * DAY_MILLISECONDS)


async def renew(database: Database, now: int, limit: int) -> None:
    """Make the parts of the next days; drop those that end before `limit`, both milliseconds."""
    await database.write(lambda connection: _renew(connection, now, limit))


def _renew(connection: sa.Connection, now: int, limit: int) -> None:
    if connection.dialect.name != "postgresql":
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    parts = set(_parts(connection))
    for part in sorted(parts):
        if part.next <= first_number(limit):
            connection.exec_driver_sql(f"DROP TABLE {part.name}")
    today = now // DAY_MILLISECONDS
    for part in map(HistoryPart, range(today, today + DAYS_AHEAD + 1)):
        if part not in parts and not _has_rows_elsewhere(connection, part):
            connection.exec_driver_sql(
                f"CREATE TABLE {part.name} PARTITION OF history"
                f" FOR VALUES FROM ({part.first}) TO ({part.next})"
            )


def _parts(connection: sa.Connection) -> Iterator[HistoryPart]:
    for name in connection.execute(_PARTS).scalars():
        if found := _NAME.fullmatch(name):
            yield HistoryPart(int(found[1]))


def _has_rows_elsewhere(connection: sa.Connection, part: HistoryPart) -> bool:
    """Return whether rows of this day came before its part; PostgreSQL would refuse the part."""
    return bool(
        connection.execute(_IN_DEFAULT, {"first": part.first, "next": part.next}).scalar_one()
    )
