"""Pure: how often something may be done, and what one process has set aside of it."""

import math
from dataclasses import dataclass

CHUNK_SECONDS = 0.5  # what lasts so long is set aside at a time: one write for many uses
MICROSECONDS = 1_000_000  # in a second


@dataclass(frozen=True, slots=True)
class Pace:
    """So many a second on average, and those of one second at once after a pause."""

    per_second: float

    @property
    def burst(self) -> int:
        """How many at once after a pause: those of one second."""
        return max(1, math.ceil(self.per_second))

    @property
    def chunk(self) -> int:
        """How many are set aside at a time."""
        return max(1, int(self.per_second * CHUNK_SECONDS))

    def microseconds(self, count: int) -> int:
        """Tell for how long so many are enough."""
        return round(count / self.per_second * MICROSECONDS)


class Allowance:
    """What one process has set aside of a pace; `now` is in seconds of its own clock.

    It is good for a short time only: saved up it would be a burst beyond the pace.
    """

    def __init__(self) -> None:
        self._left = 0
        self._good_until = 0.0
        self._none_until = 0.0

    def use(self, count: int, now: float) -> bool:
        """Use some of it, if there are as many."""
        if now >= self._good_until or self._left < count:
            return False
        self._left -= count
        return True

    def wait(self, now: float) -> float:
        """Tell for how many seconds there is no use in asking for more."""
        return max(0.0, self._none_until - now)

    def granted(self, count: int, now: float) -> None:
        """Put aside what was granted; what was left before is forgotten."""
        self._left = count
        self._good_until = now + 2 * CHUNK_SECONDS

    def refused(self, seconds: float, now: float) -> None:
        """Note that there is nothing for so long."""
        self._none_until = now + seconds
