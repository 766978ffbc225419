"""The limit of the requests of each client, over all gateways."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol

from services.gateway.api import problem
from services.gateway.clients.tables import bounded, quotas
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import Clock
from shared.storage.rate import Rate
from shared.storage.rate_limit import Reservations, TokenBuckets

POLICY = "default"  # the name of the quota in the header fields and in the problem document


class Quotas(Protocol):
    """A store of the requests that all gateways together have admitted."""

    async def take(self, client: str, count: int, quota: Rate) -> float:
        """Claim `count` requests; return 0.0, or the seconds until there are so many."""

    async def left(self, client: str, quota: Rate) -> int:
        """Return the requests that no gateway has claimed."""


class QuotaStore:
    """The clients' quotas, a token bucket each."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._buckets = TokenBuckets(database, quotas, clock)

    async def take(self, client: str, count: int, quota: Rate) -> float:
        """Claim `count` requests of a quota; return 0.0, or the seconds until there are so many.

        Raises StoreUnavailable after STORE_SECONDS.
        """
        async with bounded():
            return await self._buckets.take(client, count, count, quota)

    async def left(self, client: str, quota: Rate) -> int:
        """Return the requests of a quota that no gateway has claimed. Raises StoreUnavailable."""
        async with bounded():
            return await self._buckets.left(client, quota)


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
