"""The rates in the database: what all senders together have used of each."""

import sqlalchemy as sa

from services.sender.tables import paces
from shared.errors import Retry
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import Clock
from shared.storage.rate import Pace
from shared.storage.rate_limit import Buckets


class PaceStore:
    """Reads and writes the rates, a token bucket each."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._buckets = Buckets(database, paces, clock)

    async def take(self, name: str, mails: int, pace: Pace) -> float:
        """Take some of what a pace allows; 0.0, or the seconds until there is any.

        A mail for more recipients than the bucket holds is let through when there is room for
        one, and those after it wait the longer. Raises Retry when the database is away.
        """
        try:
            return await self._buckets.take(name, mails, 1, pace)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            raise Retry(f"the rates cannot be reached: {type(error).__name__}") from error
