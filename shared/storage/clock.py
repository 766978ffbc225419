"""The time of a database, which all that use it have in common."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MILLISECONDS, Clock

ASK_SECONDS = 10.0  # a steady clock is off by less than a millisecond after so long


class DatabaseClock:
    """Tells a database's time: asked for at times, and counted on by a clock that never jumps.

    A host whose own clock is wrong, or is put right, thus finds nothing too old or too young.
    """

    def __init__(
        self,
        database: Database,
        steady: Callable[[], float] = time.monotonic,
        clock: Clock = dialect.now,
    ) -> None:
        self._database = database
        self._steady = steady
        self._clock = clock
        self._begin = 0.0  # of the steady clock, in seconds since 1970 by the database's

    async def ask(self) -> None:
        """Ask for the time; it must have been done once. Raises OSError.

        Every ASK_SECONDS is often enough. While it fails, time goes on as before.
        """
        begun = self._steady()
        try:
            found = await self._database.read(self._read)
        except sa.exc.SQLAlchemyError as error:
            raise OSError(f"the time of the database: {type(error).__name__}") from error
        # It is that of some moment in between.
        self._begin = found / MILLISECONDS - (begun + self._steady()) / 2

    def now(self) -> datetime:
        """Tell the time."""
        return datetime.fromtimestamp(self._begin + self._steady(), UTC)

    def _read(self, connection: sa.Connection) -> int:
        found: int = connection.execute(sa.select(self._clock(connection))).scalar_one()
        return found
