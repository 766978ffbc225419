"""The rates that an operator has set, for relays and for recipient domains."""

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Protocol

from services.sender.smtp.concurrency import AdaptiveLimit, ConcurrencyLimiter
from shared.storage.database import as_handler_errors
from shared.storage.rate import Rate
from shared.storage.rate_limit import Reservations

MAX_WAIT_SECONDS = 1.0  # of a mail in this process; a longer wait goes through a delay queue
# Of one mail of each flow, so that a flow has its turn at a low rate too. All others come back from
# a delay queue by chance.
FIRST_WAIT_SECONDS = 10.0


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
    """The rates by name, over all senders; without a rate there is no limit.

    Mails of one flow, such as a client's of one class, are served in the order of arrival, and
    flows in turn: a flow with thousands of mails does not use up a rate that is lower.
    """

    def __init__(self, buckets: RateBuckets, rates: Mapping[str, Rate]) -> None:
        self._buckets = buckets
        self._rates = rates
        self._reservations = Reservations(self._take, _now)
        # One mail at a time asks for tokens, and waits for them.
        self._turns = defaultdict[str, ConcurrencyLimiter](
            lambda: ConcurrencyLimiter(AdaptiveLimit(1))
        )
        self._first: set[tuple[str, Hashable]] = set()  # flows with a mail that waits longer

    @property
    def limits(self) -> bool:
        """Whether there is any rate at all: without one `wait` need not be called."""
        return bool(self._rates)

    def per_second(self, name: str) -> float | None:
        """Return the rate of a name, None without a limit."""
        rate = self._rates.get(name)
        return None if rate is None else rate.per_second

    async def wait(
        self, mails: Mapping[str, int], flow: Hashable = None, *, patient: bool = False
    ) -> float:
        """Use so many mails of each rate; return 0.0, or how many seconds it is too early.

        A wait of up to MAX_WAIT_SECONDS for each rate is over before this returns. A `patient` one
        has FIRST_WAIT_SECONDS if no other of its flow has. Mails used of one rate are lost when
        another one refuses: the mail goes later than it might, never sooner. A mail for more
        recipients than a bucket holds is let through when there is room for one, and the mails
        after it wait longer. Raises Retry when the database is away.
        """
        for name in mails.keys() & self._rates.keys():
            place = (name, flow)
            if not patient or place in self._first:
                seconds = await self._in_turn(name, mails[name], flow, MAX_WAIT_SECONDS)
            else:
                self._first.add(place)
                try:
                    seconds = await self._in_turn(name, mails[name], flow, FIRST_WAIT_SECONDS)
                finally:
                    self._first.remove(place)
            if seconds:
                return seconds
        return 0.0

    async def _in_turn(self, name: str, count: int, flow: Hashable, most: float) -> float:
        """Use tokens of one rate in the flow's turn; return 0.0, or the seconds that are missing.

        The next one to ask waits for as long as this one.
        """
        until = _now() + most
        turns = self._turns[name]
        if not await turns.acquire(most, flow):
            return MAX_WAIT_SECONDS
        try:
            while seconds := await self._reservations.use(name, count, self._rates[name]):
                if _now() + seconds > until:
                    return seconds
                await asyncio.sleep(seconds)
            return 0.0
        finally:
            turns.release()

    async def _take(self, name: str, count: int, rate: Rate) -> float:
        with as_handler_errors("the rates"):
            return await self._buckets.take(name, count, 1, rate)


def _now() -> float:
    return asyncio.get_running_loop().time()
