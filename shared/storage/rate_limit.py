"""Token buckets in a database, which all replicas share, and the tokens reserved of them."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa

from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock
from shared.storage.rate import MICROSECONDS_PER_SECOND, Rate, ReservedTokens

# A use may take more tokens than there are, yet no use takes so many.
MAX_OWED_TOKENS = 1000

Take = Callable[[str, int, Rate], Awaitable[float]]


class TokenBuckets:
    """A bucket for each row of a table, which has one key and the column `used_until`.

    `used_until` is the time, in microseconds since 1970, at which the tokens taken so far would be
    used up if they were used evenly.
    """

    def __init__(self, database: Database, table: sa.Table, clock: Clock = dialect.now) -> None:
        self._database = database
        self._table = table
        self._clock = clock
        self._statements: tuple[sa.Executable, sa.Executable] | None = None

    async def take(self, name: str, count: int, room: int, rate: Rate) -> float:
        """Remove `count` tokens if there are `room`; return 0.0, or the seconds until there are.

        Raises SQLAlchemyError or OSError when the database is away.
        """
        values = {
            "of_name": name,
            "cost": rate.microseconds(count),
            "room": rate.microseconds(room),
            "burst": rate.microseconds(rate.burst),
            "most": rate.microseconds(MAX_OWED_TOKENS),
        }
        return await self._database.write(lambda c: self._take(c, values)) / MICROSECONDS_PER_SECOND

    async def left(self, name: str, rate: Rate) -> int:
        """Return the tokens that are there. Raises SQLAlchemyError or OSError."""
        unused = await self._database.read(lambda c: self._unused(c, name))
        if unused is None:
            return rate.burst
        return max(0, min(rate.burst, int(unused * rate.per_second / MICROSECONDS_PER_SECOND)))

    def _unused(self, connection: sa.Connection, name: str) -> int | None:
        """Return the microseconds whose tokens nothing has taken, None for a new name."""
        [key] = self._table.primary_key.columns
        unused = self._now(connection) - self._table.c.used_until
        found: int | None = connection.scalar(sa.select(unused).where(key == name))
        return found

    def _now(self, connection: sa.Connection) -> sa.ColumnElement[int]:
        return self._clock(connection) * (MICROSECONDS_PER_SECOND // MILLISECONDS_PER_SECOND)

    def _take(self, connection: sa.Connection, values: Mapping[str, object]) -> int:
        if self._statements is None:  # made once: making them costs more than running them
            now = self._now(connection)
            self._statements = _taking(connection, self._table, now), _looking(self._table, now)
        taking, looking = self._statements
        if connection.execute(taking, values).first() is not None:
            return 0
        # Between the two statements there may have come some.
        return max(1, connection.scalar(looking, values) or 0)


class Reservations:
    """The tokens that one process has reserved of shared buckets, so that few uses ask these.

    `take` removes tokens from the bucket of a name and returns 0.0, or the seconds until there are
    some, in which it is not called again. `clock` is in seconds.
    """

    def __init__(self, take: Take, clock: Callable[[], float]) -> None:
        self._take = take
        self._clock = clock
        self._reserved: defaultdict[str, ReservedTokens] = defaultdict(ReservedTokens)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def use(self, name: str, count: int, rate: Rate) -> float:
        """Use `count` tokens; return 0.0, or the seconds to wait. Raises as `take` does."""
        reserved = self._reserved[name]
        if reserved.use(count, self._clock()):
            return 0.0
        async with self._locks[name]:  # the callers that wait here use the same chunk
            if reserved.use(count, self._clock()):
                return 0.0
            return reserved.wait(self._clock()) or await self._refill(name, count, rate)

    def left(self, name: str) -> int:
        """Return the tokens of a name that this process has reserved and not used."""
        return self._reserved[name].left(self._clock())

    async def _refill(self, name: str, count: int, rate: Rate) -> float:
        wanted = max(count, rate.chunk)
        seconds = await self._take(name, wanted, rate)
        if seconds:
            self._reserved[name].refused(seconds, self._clock())
        else:
            self._reserved[name].granted(wanted - count, self._clock())
        return seconds


def _taking(
    connection: sa.Connection, table: sa.Table, now: sa.ColumnElement[int]
) -> sa.Executable:
    """Move `used_until` on, from the time of a full bucket at the earliest, if there is room.

    A bucket that is used until long after now was so before the clock was put back: it is full.
    """
    [key] = table.primary_key.columns
    full, used, cost = now - _number("burst"), table.c.used_until, _number("cost")
    begin = sa.case((used.between(full, now + _number("most")), used), else_=full)
    row = dialect.insert(connection, table).values(
        {key: sa.bindparam("of_name"), used: full + cost}
    )
    return row.on_conflict_do_update(
        index_elements=[key],
        set_={used: begin + cost},
        where=begin + _number("room") <= now,
    ).returning(key)


def _looking(table: sa.Table, now: sa.ColumnElement[int]) -> sa.Executable:
    """Select the microseconds until there is room again."""
    [key] = table.primary_key.columns
    left = table.c.used_until + _number("room") - now
    return sa.select(left).where(key == sa.bindparam("of_name"))


def _number(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)
