"""The requests a second of each client, over all gateways."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from services.gateway.api import problem
from shared.storage.rate import Rate, ReservedTokens


class Quotas(Protocol):
    """A store of the requests that all gateways together have admitted."""

    async def take(self, client: str, quota: Rate) -> float:
        """Claim a chunk of a client's quota; return 0.0, or the seconds until there is one."""


class RateLimiter:
    """Admits requests within a quota, all of them when it is None; `clock` is in seconds."""

    def __init__(self, quota: Rate | None, quotas: Quotas, clock: Callable[[], float]) -> None:
        self._quota = quota
        self._quotas = quotas
        self._clock = clock
        # One for each client that has shown its key.
        self._reserved: defaultdict[str, ReservedTokens] = defaultdict(ReservedTokens)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def admit(self, client: str) -> None:
        """Count a request of a client.

        Raises Problem when the quota is used up, and Unavailable when the store is away.
        """
        if self._quota is None or self._reserved[client].use(1, self._clock()):
            return
        async with self._locks[client]:  # the requests that wait here use the same chunk
            await self._refill(client, self._reserved[client], self._quota)

    async def _refill(self, client: str, reserved: ReservedTokens, quota: Rate) -> None:
        if reserved.use(1, self._clock()):
            return
        seconds = reserved.wait(self._clock())
        if not seconds:
            seconds = await self._quotas.take(client, quota)
            reserved.refused(seconds, self._clock())
        if seconds:
            raise problem.too_many_requests(seconds, "quota")
        reserved.granted(quota.chunk, self._clock())
        reserved.use(1, self._clock())
