"""Where mails are held to the rates that an operator has set."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import sqlalchemy as sa

from services.sender.tables import paces
from shared.errors import Retry
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import Clock
from shared.storage.rate import Rate, ReservedTokens
from shared.storage.rate_limit import TokenBuckets

PATIENCE_SECONDS = 1.0  # of a mail in our hands; who would wait longer does so on the ladder


def relay_rate(name: str) -> str:
    """Name the rate of a relay."""
    return f"relay {name}"


def domain_rate(domain: str) -> str:
    """Name the rate of a recipient domain."""
    return f"domain {domain}"


class TokenSource(Protocol):
    """What all senders together may still send."""

    async def take(self, name: str, mails: int, rate: Rate) -> float:
        """Take some of what a rate allows; 0.0, or the seconds until there is any."""


class Throttle:
    """The rates of relays and recipient domains, by name; what has no rate is not held up."""

    def __init__(self, buckets: TokenSource, rates: Mapping[str, Rate]) -> None:
        self._buckets = buckets
        self._rates = rates
        self._reserved: dict[str, ReservedTokens] = defaultdict(ReservedTokens)
        self._asking: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def limits(self) -> bool:
        """Whether there is any rate at all: without one nobody need be asked."""
        return bool(self._rates)

    async def wait(self, mails: Mapping[str, int]) -> float:
        """Take so many mails of each rate; 0.0, or how many seconds it is too early.

        A short wait is over before this returns. What was taken of one rate when another one
        refuses is lost: the mail goes later than it might, never sooner. Raises Retry.
        """
        patience = PATIENCE_SECONDS
        for name in mails.keys() & self._rates.keys():
            while seconds := await self._take(name, mails[name]):
                if seconds > patience:
                    return seconds
                patience -= seconds
                await asyncio.sleep(seconds)
        return 0.0

    async def _take(self, name: str, mails: int) -> float:
        rate, reserved = self._rates[name], self._reserved[name]
        async with self._asking[name]:
            if reserved.use(mails, _now()):
                return 0.0
            if seconds := reserved.wait(_now()):
                return seconds
            wanted = max(mails, rate.chunk)
            if seconds := await self._buckets.take(name, wanted, rate):
                reserved.refused(seconds, _now())
            else:
                reserved.granted(wanted - mails, _now())
            return seconds


def _now() -> float:
    return asyncio.get_running_loop().time()


class RateStore:
    """Reads and writes the rates, a token bucket each."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._buckets = TokenBuckets(database, paces, clock)

    async def take(self, name: str, mails: int, rate: Rate) -> float:
        """Take some of what a rate allows; 0.0, or the seconds until there is any.

        A mail for more recipients than the bucket holds is let through when there is room for
        one, and those after it wait the longer. Raises Retry when the database is away.
        """
        try:
            return await self._buckets.take(name, mails, 1, rate)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            raise Retry(f"the rates cannot be reached: {type(error).__name__}") from error
