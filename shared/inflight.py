"""How far the handling of a delivery has come, for the case that its service is told to end.

The handler marks it; the consumer that runs the handler reads it. A handler that marks nothing has
begun from its first step on and is never committed.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum

HANDLER = "a handler"  # in the log, where a handler names nothing else


class Phase(IntEnum):
    """The steps of a handling, by the cost of ending it there."""

    WAITING = 0  # nothing has been done: it goes back to the broker at once
    BEGUN = 1  # it can be broken off and done again: it has the ordinary time
    COMMITTED = 2  # the result would stay unknown: it has all the time there is


class InFlight:
    """The phase of one handling, its begin, and the reason to wait for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self.phase = Phase.WAITING
        self.waits_for = HANDLER

    @property
    def seconds(self) -> float:
        """For how long it has been in its phase."""
        return self._clock() - self._since

    def reach(self, phase: Phase, waits_for: str = HANDLER) -> None:
        """Enter a phase; to enter it once more changes nothing."""
        if phase != self.phase:
            self.phase, self.waits_for, self._since = phase, waits_for, self._clock()


current: ContextVar[InFlight | None] = ContextVar("in flight", default=None)


def reach(phase: Phase, waits_for: str = HANDLER) -> None:
    """Enter a phase of the handling of the present delivery; outside of one do nothing."""
    work = current.get()
    if work is not None:
        work.reach(phase, waits_for)
