"""The requests a second of each client, over all gateways."""

from collections.abc import Callable

from services.gateway.api import problem
from shared.storage.rate import Rate
from shared.storage.rate_limit import Reservations, Take


class RateLimiter:
    """Admits requests within a quota, all of them when it is None; `clock` is in seconds."""

    def __init__(self, quota: Rate | None, take: Take, clock: Callable[[], float]) -> None:
        self._quota = quota
        # One for each client that has shown its key.
        self._reservations = Reservations(take, clock)

    async def admit(self, client: str) -> None:
        """Count a request of a client.

        Raises Problem when the quota is used up, and Unavailable when the store is away.
        """
        if self._quota is None:
            return
        if seconds := await self._reservations.use(client, 1, self._quota):
            raise problem.too_many_requests(seconds, "quota")
