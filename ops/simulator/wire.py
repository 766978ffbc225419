"""A long wire: what goes in comes out later, in order."""

import asyncio
from collections import deque
from collections.abc import Callable


class Wire:
    """Delays arrivals at a connection, which is what distance does to a client.

    Waiting before each reply instead would charge pipelined commands once each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: deque[Callable[[], object]] = deque()

    def carry(self, arrive: Callable[[], object], delay: float) -> None:
        """Call `arrive` after `delay` seconds and after all that was sent before."""
        if not delay and not self._under_way:
            arrive()
            return
        self._under_way.append(arrive)
        self._loop.call_later(delay, self._arrive)

    def cut(self) -> None:
        """Lose what is under way."""
        self._under_way.clear()

    def _arrive(self) -> None:
        # The oldest, whichever timer fired: a shorter latency must not reorder.
        if self._under_way:
            self._under_way.popleft()()
