"""Pure: waits that double from one failure to the next (RFC 5321 4.5.4.1)."""

from dataclasses import dataclass

GROWTH = 2.0  # from one wait to the next
MAX_DOUBLINGS = 32  # keeps a year of failures within what a float can hold


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first wait and the longest, in seconds."""

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """Tell how long to wait after one more failure than these in a row."""
        return min(self.first * GROWTH ** min(failures, MAX_DOUBLINGS), self.longest)
