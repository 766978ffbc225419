"""Pure: the rate of something that is limited, in one process or over all of them."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

CHUNK_SECONDS = 0.5  # the time for which a process reserves tokens: one write for many uses
MICROSECONDS_PER_SECOND = 1_000_000
MAX_KEYS = 10_000  # of which one process remembers when they were used


@dataclass(frozen=True, slots=True)
class Rate:
    """A number a second on average, with a burst of one second's number after a pause."""

    per_second: float

    @property
    def burst(self) -> int:
        """The largest number at once, after a pause."""
        return max(1, math.ceil(self.per_second))

    @property
    def chunk(self) -> int:
        """The number of tokens that a process reserves at a time."""
        return max(1, int(self.per_second * CHUNK_SECONDS))

    def microseconds(self, count: int) -> int:
        """Return the time in which `count` are used up at this rate."""
        return round(count / self.per_second * MICROSECONDS_PER_SECOND)


class ReservedTokens:
    """The tokens of a rate that one process has reserved; `now` is in seconds of its own clock.

    They are valid for a short time only: saved up they would be a burst beyond the rate.
    """

    def __init__(self) -> None:
        self._left = 0
        self._valid_until = 0.0
        self._none_until = 0.0

    def use(self, count: int, now: float) -> bool:
        """Use `count` tokens and return True, or return False if fewer are left."""
        if self.left(now) < count:
            return False
        self._left -= count
        return True

    def left(self, now: float) -> int:
        """Return the tokens that can still be used."""
        return self._left if now < self._valid_until else 0

    def wait(self, now: float) -> float:
        """Return the seconds until it is worth asking for more."""
        return max(0.0, self._none_until - now)

    def granted(self, count: int, now: float) -> None:
        """Keep the tokens that were granted; those left before are dropped."""
        self._left = count
        self._valid_until = now + 2 * CHUNK_SECONDS

    def refused(self, seconds: float, now: float) -> None:
        """Remember that no tokens are granted for so many seconds."""
        self._none_until = now + seconds


class LocalRateLimiter:
    """Admits `count` requests of a key in `seconds`, in this process alone; `clock` is in seconds.

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
