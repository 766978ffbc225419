"""A time limit that is set anew all the time."""

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls `ring` once the time that it is set to has come, in the loop's time.

    A timer for each reply would cost as much as reading it. The one that runs is left alone when
    the time is put off or cleared, and looks again when it goes off.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._due = self._goes_off = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Ring at `due`, and not when it was set to before."""
        self._due = due
        if due < self._goes_off:
            self.stop()
            self._due = self._goes_off = due
            self._timer = self._loop.call_at(due, self._look)

    def clear(self) -> None:
        """Do not ring until it is set again."""
        self._due = math.inf

    def stop(self) -> None:
        """Clear it and let go of the loop."""
        self._due = self._goes_off = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        due = self._due
        self.stop()
        if due <= self._loop.time():
            self._ring()
        elif due < math.inf:
            self.set(due)
