"""Pure: how often a client may ask, and what one gateway has set aside of it."""

import math
from dataclasses import dataclass

CHUNK_SECONDS = 0.5  # of a quota are set aside at a time: not one write for each request
MICROSECONDS = 1_000_000  # in a second


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests a second on average, and those of one second at once after a pause."""

    per_second: float

    @property
    def chunk(self) -> int:
        """How many are set aside at a time."""
        return max(1, int(self.per_second * CHUNK_SECONDS))

    @property
    def cost(self) -> int:
        """For how many microseconds a chunk is enough."""
        return round(self.chunk / self.per_second * MICROSECONDS)

    @property
    def burst(self) -> int:
        """For how many microseconds that is enough which may come at once."""
        return round(max(1, math.ceil(self.per_second)) / self.per_second * MICROSECONDS)


class Allowance:
    """What one gateway has set aside for one client; `now` is in seconds of its own clock.

    It is good for a short time only: saved up it would be a burst beyond the quota.
    """

    def __init__(self) -> None:
        self._left = 0
        self._good_until = 0.0
        self._none_until = 0.0

    def use(self, now: float) -> bool:
        """Use one of it, if there is one."""
        if self._left < 1 or now >= self._good_until:
            return False
        self._left -= 1
        return True

    def wait(self, now: float) -> float:
        """Tell for how many seconds there is no use in asking for more."""
        return max(0.0, self._none_until - now)

    def granted(self, chunk: int, now: float) -> None:
        """Put aside what was granted; what was left before is forgotten."""
        self._left = chunk
        self._good_until = now + 2 * CHUNK_SECONDS

    def refused(self, seconds: float, now: float) -> None:
        """Note that there is nothing for so long."""
        self._none_until = now + seconds
