"""Bounding the memory of large bodies, in all and for each client, so that none starves another."""

from collections.abc import Callable

from services.gateway.api.problem import UNAVAILABLE, Problem, retry_after

RETRY_SECONDS = 1.0  # a large body takes less, once it has arrived


class BodyBudget:
    """Counts the bytes of large bodies in flight; one client has at most half of `total_bytes`.

    `largest_bytes` is that of one body, which always fits the share of a client.
    """

    def __init__(self, total_bytes: int, largest_bytes: int) -> None:
        self._total = max(total_bytes, largest_bytes)
        self._share = max(total_bytes // 2, largest_bytes)
        self._held: dict[str, int] = {}

    def hold(self, client: str, size: int) -> Callable[[], None]:
        """Count a body of `size` bytes until the function that is returned is called.

        Raises Problem when that would be too many.
        """
        held = self._held.get(client, 0)
        if held + size > self._share or sum(self._held.values()) + size > self._total:
            raise Problem(
                UNAVAILABLE,
                "Too many large requests are under way. Nothing was done; try again.",
                headers=retry_after(RETRY_SECONDS),
                reason="large bodies in flight",
            )
        self._held[client] = held + size
        return lambda: self._release(client, size)

    def _release(self, client: str, size: int) -> None:
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
