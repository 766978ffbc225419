"""The time of a database, the same for all processes that use it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock

ASK_SECONDS = 10.0  # between two looks; a steady clock drifts by less than a millisecond


class DatabaseClock:
    """A database's time: asked for now and then, and counted on with a clock that never jumps.

    So the age of nothing is wrong on a host whose own clock is wrong or is corrected.
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
        """Ask the database for its time; do it before the first use. Raises OSError.

        Every ASK_SECONDS is often enough. After a failure the time goes on as before.
        """
        begun = self._steady()
        try:
            found = await self._database.read(lambda c: dialect.read_now(c, self._clock))
        except sa.exc.SQLAlchemyError as error:
            raise OSError(f"the time of the database: {type(error).__name__}") from error
        # The database looked at its clock at some moment between the two.
        self._begin = found / MILLISECONDS_PER_SECOND - (begun + self._steady()) / 2

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self._begin + self._steady(), UTC)
