"""How far a run has come: a bar on a terminal, else a line now and then."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TextIO

_BAR: Final = 30  # columns
_TERMINAL_SECONDS: Final = 0.1  # between two looks; what is quicker nobody sees
_LINE_SECONDS: Final = 5.0  # where each look is a line that stays
_ERASE: Final = "\r\x1b[K"  # ECMA-48: to the first column, erase to the end of the line


class Progress:
    """Shows counts on a stream, with the rate since it was made."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._begun = clock()
        self._live = stream.isatty()

    @asynccontextmanager
    async def phase(self, name: str, count: Callable[[], int], total: int) -> AsyncIterator[None]:
        """Show, while the block runs, how much of `total` `count` tells, and once at its end."""

        def show(end: str) -> None:
            self._show(bar(name, count(), total, self._clock() - self._begun), end)

        watching = asyncio.create_task(self._watch(show), name="progress")
        try:
            yield
        finally:
            watching.cancel()
            show("\n")

    async def _watch(self, show: Callable[[str], None]) -> None:
        while True:  # until the phase is over
            await asyncio.sleep(_TERMINAL_SECONDS if self._live else _LINE_SECONDS)
            show("" if self._live else "\n")

    def _show(self, text: str, end: str) -> None:
        print(f"{_ERASE if self._live else ''}{text}", end=end, file=self._stream, flush=True)


def bar(name: str, done: int, total: int, seconds: float) -> str:
    """Give the line of one look. Pure."""
    share = min(done / total, 1.0) if total else 1.0
    filled = int(share * _BAR)
    rate = done / seconds if seconds > 0 else 0.0
    return (
        f"{name:<9} [{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}"
        f"  {done:,} of {total:,}  {rate:,.0f}/s"
    )
