"""Where a service's time goes, function by function, as cProfile sees it.

A profiled process is slower, short functions most of all: read the order, not the sum.
"""

import pstats
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import aligned

_TOP = 15
# Calls a message. What is called less often belongs to the start, or is whatever had the event
# loop, which is in C, wait: all its waiting is booked there.
_OFTEN = 0.5
_WIDTH = 60  # characters of a name
_MICROSECONDS = 1_000_000


def profiled(module: str, into: Path) -> list[str]:
    """Give the command that runs a module and writes its profile at its end."""
    return [sys.executable, "-m", "cProfile", "-o", str(into), "-m", module]


def table(profile: Path, count: int) -> str:
    """Give the functions that most time is spent in, for each of `count` messages.

    Only those that a message calls.
    """
    # What the documented method gives has one entry for all functions of a name.
    found = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined] # typeshed has it not
    spots = [
        _Spot(Path(file).stem if line else "", name, calls, seconds)
        for (file, line, name), (_, calls, seconds, _, _) in found.items()
        if calls >= _OFTEN * count
    ]
    dearest = sorted(spots, key=lambda spot: -spot.seconds)[:_TOP]
    return aligned([("own time", "µs", "calls"), *(spot.cells(count) for spot in dearest)])


@dataclass(frozen=True, slots=True)
class _Spot:
    """One function; `seconds` are its own, without those of what it called."""

    module: str
    name: str
    calls: int
    seconds: float

    def cells(self, count: int) -> Sequence[str]:
        """Give what falls to one of `count` messages."""
        micros = self.seconds / count * _MICROSECONDS
        name = f"{self.module}.{self.name}" if self.module else self.name
        return name[:_WIDTH], f"{micros:,.0f}", f"{self.calls / count:.1f}"
