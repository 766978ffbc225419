"""Token buckets in a database: what all replicas together have used of a pace."""

from collections.abc import Mapping

import sqlalchemy as sa

from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MILLISECONDS, Clock
from shared.storage.rate import MICROSECONDS, Pace


class Buckets:
    """A row each, of a table with one key beside `used_until`.

    That is until when what was taken would last, used evenly: microseconds since 1970.
    """

    def __init__(self, database: Database, table: sa.Table, clock: Clock = dialect.now) -> None:
        self._database = database
        self._table = table
        self._clock = clock
        self._texts: tuple[sa.Executable, sa.Executable] | None = None

    async def take(self, name: str, count: int, room: int, pace: Pace) -> float:
        """Take so many when there is room for `room`; 0.0, or the seconds until there is.

        Raises SQLAlchemyError or OSError when the database is away.
        """
        values = {
            "of_name": name,
            "cost": pace.microseconds(count),
            "room": pace.microseconds(room),
            "burst": pace.microseconds(pace.burst),
        }
        return await self._database.write(lambda c: self._take(c, values)) / MICROSECONDS

    def _take(self, connection: sa.Connection, values: Mapping[str, object]) -> int:
        if self._texts is None:  # made once: making them costs more than running them
            now = self._clock(connection) * (MICROSECONDS // MILLISECONDS)
            self._texts = _taking(connection, self._table, now), _looking(self._table, now)
        taking, looking = self._texts
        if connection.execute(taking, values).first() is not None:
            return 0
        # In a moment there may be some although it was not so a moment ago.
        return max(1, connection.scalar(looking, values) or 0)


def _taking(
    connection: sa.Connection, table: sa.Table, now: sa.ColumnElement[int]
) -> sa.Executable:
    """Use up time, from when the bucket was full at the earliest, if there is room."""
    [key] = table.primary_key.columns
    full, used, cost = now - _number("burst"), table.c.used_until, _number("cost")
    begin = sa.case((used > full, used), else_=full)
    row = dialect.insert(connection, table).values(
        {key: sa.bindparam("of_name"), used: full + cost}
    )
    return row.on_conflict_do_update(
        index_elements=[key],
        set_={used: begin + cost},
        where=begin + _number("room") <= now,
    ).returning(key)


def _looking(table: sa.Table, now: sa.ColumnElement[int]) -> sa.Executable:
    """Tell when there is room again."""
    [key] = table.primary_key.columns
    left = table.c.used_until + _number("room") - now
    return sa.select(left).where(key == sa.bindparam("of_name"))


def _number(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)
