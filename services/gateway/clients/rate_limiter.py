"""Limits of requests: of each client over all gateways, and of each link at one of them."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

from services.gateway.api import problem
from shared.storage.rate import Rate
from shared.storage.rate_limit import Reservations

MAX_KEYS = 10_000  # of which one process remembers when they were used
POLICY = "default"  # the name of the quota in the header fields and in the problem document


class Quotas(Protocol):
    """A store of the requests that all gateways together have admitted."""

    async def take(self, client: str, count: int, quota: Rate) -> float:
        """Claim `count` requests; return 0.0, or the seconds until there are so many."""

    async def left(self, client: str, quota: Rate) -> int:
        """Return the requests that no gateway has claimed."""


class RateLimiter:
    """Admits requests within a quota, all of them when it is None; `clock` is in seconds."""

    def __init__(self, quota: Rate | None, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._quota = quota
        self._quotas = quotas
        # One for each client that has shown its key.
        self._reservations = Reservations(self._take, clock)
        self._unclaimed: defaultdict[str, int] = defaultdict(int)  # at the last claim of a client

    async def admit(self, client: str) -> Mapping[str, str]:
        """Count a request of a client; return the header fields of its answer.

        Raises Problem when the quota is used up, and Unavailable when the store is away.
        """
        quota = self._quota
        if quota is None:
            return {}
        if seconds := await self._reservations.use(client, 1, quota):
            raise problem.quota_exceeded(seconds, POLICY, header_fields(quota, 0, seconds))
        left = self._reservations.left(client) + self._unclaimed[client]
        return header_fields(quota, left, 0)

    async def _take(self, client: str, count: int, quota: Rate) -> float:
        seconds = await self._quotas.take(client, count, quota)
        if not seconds:
            self._unclaimed[client] = await self._quotas.left(client, quota)
        return seconds


class LocalRateLimiter:
    """Admits `count` requests of a key in `seconds`, at this gateway alone; `clock` is in seconds.

    Of more than MAX_KEYS keys it forgets the one that was not used for longest.
    """

    def __init__(self, count: int, seconds: float, clock: Callable[[], float]) -> None:
        self._cost = seconds / count
        self._seconds = seconds
        self._clock = clock
        self._used_until: dict[Hashable, float] = {}  # the one used last is the last

    def wait(self, key: Hashable) -> float:
        """Count a request and return 0.0, or return the seconds until one is admitted."""
        now = self._clock()
        used_until = max(now, self._used_until.pop(key, now))
        wait = max(0.0, used_until + self._cost - now - self._seconds)
        self._used_until[key] = used_until if wait else used_until + self._cost
        if len(self._used_until) > MAX_KEYS:
            del self._used_until[next(iter(self._used_until))]
        return wait


def header_fields(quota: Rate, left: int, wait_seconds: float) -> Mapping[str, str]:
    """Return RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11).

    They have whole numbers alone: a quota with a fraction is stated a little too low.
    """
    window = max(1, math.ceil(1 / quota.per_second))
    requests = max(1, int(quota.per_second))
    effective = max(1, math.ceil(wait_seconds or window))
    return {
        "RateLimit-Policy": f'"{POLICY}";q={requests};w={window}',
        "RateLimit": f'"{POLICY}";r={min(left, requests)};t={effective}',
    }
