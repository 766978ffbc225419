"""Remembers who has tried before."""

from collections.abc import Callable
from typing import Final

REMEMBERED: Final = 10_000  # pairs; the oldest are forgotten first


class Greylist:
    """Turns away a sender and recipient until some time after their first try."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first_try: dict[tuple[str, str], float] = {}

    def admits(self, sender: str, recipient: str, after: float) -> bool:
        """Whether `after` seconds have passed since the first try of this pair."""
        now = self._clock()
        first = self._first_try.setdefault((sender.lower(), recipient.lower()), now)
        if len(self._first_try) > REMEMBERED:
            del self._first_try[next(iter(self._first_try))]
        return now - first >= after
