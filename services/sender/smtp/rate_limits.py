"""The rates that an operator has set, for relays and for recipient domains."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from shared.storage.database import as_handler_errors
from shared.storage.rate import Rate
from shared.storage.rate_limit import Reservations

MAX_WAIT_SECONDS = 1.0  # of a mail in this process; a longer wait goes through a delay queue


def relay_rate(name: str) -> str:
    """Return the name of a relay's rate."""
    return f"relay {name}"


def domain_rate(domain: str) -> str:
    """Return the name of a recipient domain's rate."""
    return f"domain {domain}"


class RateBuckets(Protocol):
    """The token buckets of all senders together, see `shared.storage.rate_limit`."""

    async def take(self, name: str, count: int, room: int, rate: Rate) -> float:
        """Use tokens if there is room; return 0.0, or the seconds until there is."""


class Throttle:
    """The rates by name, over all senders; without a rate there is no limit."""

    def __init__(self, buckets: RateBuckets, rates: Mapping[str, Rate]) -> None:
        self._buckets = buckets
        self._rates = rates
        self._reservations = Reservations(self._take, _now)

    @property
    def limits(self) -> bool:
        """Whether there is any rate at all: without one `wait` need not be called."""
        return bool(self._rates)

    async def wait(self, mails: Mapping[str, int]) -> float:
        """Use so many mails of each rate; return 0.0, or how many seconds it is too early.

        A wait of up to MAX_WAIT_SECONDS is over before this returns. Mails used of one rate are
        lost when another one refuses: the mail goes later than it might, never sooner. A mail for
        more recipients than a bucket holds is let through when there is room for one, and the
        mails after it wait longer. Raises Retry when the database is away.
        """
        left = MAX_WAIT_SECONDS
        for name in mails.keys() & self._rates.keys():
            while seconds := await self._reservations.use(name, mails[name], self._rates[name]):
                if seconds > left:
                    return seconds
                left -= seconds
                await asyncio.sleep(seconds)
        return 0.0

    async def _take(self, name: str, count: int, rate: Rate) -> float:
        with as_handler_errors("the rates"):
            return await self._buckets.take(name, count, 1, rate)


def _now() -> float:
    return asyncio.get_running_loop().time()
