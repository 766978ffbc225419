"""The output of a run: percentiles of durations, and a progress bar."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TextIO

_SHARES: Final = (0.5, 0.95, 0.99)
_BAR_COLUMNS: Final = 30
_TERMINAL_SECONDS: Final = 0.1  # between two updates of one line
_LOG_SECONDS: Final = 5.0  # between two lines, where each update is a new one
_ERASE_LINE: Final = "\r\x1b[K"  # ECMA-48: to the first column, erase to the end of the line


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least of `values` that at least `share` (0 to 1) of them do not exceed."""
    rank = math.ceil(share * len(values))  # the nearest-rank method
    return sorted(values)[max(rank, 1) - 1]


def percentiles(seconds: Sequence[float]) -> str:
    """Describe durations by three percentiles and the longest one."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    shares = (f"p{share * 100:.0f} {_duration(percentile(ordered, share))}" for share in _SHARES)
    return "   ".join((*shares, f"most {_duration(ordered[-1])}"))


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


class ProgressBar:
    """Shows counts on a stream, with the rate since it was made."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._begun = clock()
        self._live = stream.isatty()

    @asynccontextmanager
    async def phase(self, name: str, count: Callable[[], int], total: int) -> AsyncIterator[None]:
        """Show how much of `total` is done, during the block and once at its end."""

        def show(end: str) -> None:
            text = progress_line(name, count(), total, self._clock() - self._begun)
            erase = _ERASE_LINE if self._live else ""
            print(f"{erase}{text}", end=end, file=self._stream, flush=True)

        async def repeat() -> None:
            while True:
                await asyncio.sleep(_TERMINAL_SECONDS if self._live else _LOG_SECONDS)
                show("" if self._live else "\n")

        repeating = asyncio.create_task(repeat(), name="progress")
        try:
            yield
        finally:
            repeating.cancel()
            show("\n")


def progress_line(name: str, done: int, total: int, seconds: float) -> str:
    """Return a bar, the count and the rate. Pure."""
    share = min(done / total, 1.0) if total else 1.0
    filled = int(share * _BAR_COLUMNS)
    rate = done / seconds if seconds > 0 else 0.0
    return (
        f"{name:<9} [{'#' * filled}{'.' * (_BAR_COLUMNS - filled)}] {share:4.0%}"
        f"  {done:,} of {total:,}  {rate:,.0f}/s"
    )
