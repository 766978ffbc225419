"""Pure: records read a moment ago, each for a set time at most."""

from collections.abc import Callable
from typing import Generic, TypeVar

MOST = 10_000  # records, some 10 MB; the oldest leaves for the next

T = TypeVar("T")


class Cache(Generic[T]):
    """Remembers up to MOST things for `seconds` each, none for 0.

    `clock` gives seconds that only grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[str, tuple[float, T]] = {}

    def now(self) -> float:
        """Give the time to keep a thing by: taken before it is read, since it ages from then on."""
        return self._clock()

    def get(self, name: str) -> T | None:
        """Give a thing that is young enough."""
        kept = self._kept.get(name)
        if kept is None or self._clock() - kept[0] >= self._seconds:
            return None
        return kept[1]

    def keep(self, name: str, thing: T, read_at: float) -> None:
        """Keep a thing that was read at a time given by `now`."""
        if not self._seconds:
            return
        self._kept.pop(name, None)
        if len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = read_at, thing
