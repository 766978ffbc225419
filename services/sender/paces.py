"""The rates in the database: what all senders together have used of each."""

import sqlalchemy as sa

from services.sender.tables import paces
from shared import dialect
from shared.database import Database
from shared.dialect import MILLISECONDS, Clock
from shared.errors import Retry
from shared.pace import MICROSECONDS, Pace


class PaceStore:
    """Token buckets, a row each: until when what was taken is enough at the pace."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._database = database
        self._clock = clock
        self._statements: dict[str, tuple[sa.Executable, sa.Executable]] = {}  # by dialect

    async def take(self, name: str, mails: int, pace: Pace) -> float:
        """Take some of what a pace allows; 0.0, or the seconds until there is any.

        A mail for more recipients than the bucket holds is let through when there is room for
        one, and those after it wait the longer. Raises Retry when the database is away.
        """
        values = {
            "of_name": name,
            "cost": pace.microseconds(mails),
            "one": pace.microseconds(1),
            "burst": pace.microseconds(pace.burst),
        }

        def work(connection: sa.Connection) -> int:
            taking, looking = self._in(connection)
            if connection.execute(taking, values).first() is not None:
                return 0
            # In a moment there may be some although it was not so a moment ago.
            return max(1, connection.scalar(looking, values) or 0)

        try:
            return await self._database.write(work) / MICROSECONDS
        except (OSError, sa.exc.SQLAlchemyError) as error:
            raise Retry(f"the rates cannot be reached: {type(error).__name__}") from error

    def _in(self, connection: sa.Connection) -> tuple[sa.Executable, sa.Executable]:
        """Give the statements in the words of this database, made once."""
        name = connection.dialect.name
        if name not in self._statements:
            now = self._clock(connection) * (MICROSECONDS // MILLISECONDS)
            self._statements[name] = _taking(connection, now), _looking(now)
        return self._statements[name]


def _taking(connection: sa.Connection, now: sa.ColumnElement[int]) -> sa.Executable:
    """Use up time, from when the bucket was full at the earliest, if there is room for one."""
    full, used = now - _number("burst"), paces.c.used_until
    begin = sa.case((used > full, used), else_=full)
    row = dialect.insert(connection, paces).values(
        name=sa.bindparam("of_name"), used_until=full + _number("cost")
    )
    return row.on_conflict_do_update(
        index_elements=["name"],
        set_={"used_until": begin + _number("cost")},
        where=begin + _number("one") <= now,
    ).returning(paces.c.name)


def _looking(now: sa.ColumnElement[int]) -> sa.Executable:
    """Tell when there is room for one again."""
    left = paces.c.used_until + _number("one") - now
    return sa.select(left).where(paces.c.name == sa.bindparam("of_name"))


def _number(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)
