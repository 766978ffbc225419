"""Where mails wait for their turn at a relay: so many at a time as its width says."""

import asyncio
from collections import deque

from services.sender.smtp.adaptive_limit import Width


class Gate:
    """Lets in and counts; the width may change while mails are under way."""

    def __init__(self, width: Width) -> None:
        self._width = width
        self._inside = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def free(self) -> bool:
        """Whether one would be let in at once."""
        return self._inside < self._width.limit

    async def enter(self, seconds: float) -> bool:
        """Wait to be let in; False if that takes too long. Whoever is let in must leave."""
        if self.free:
            self._inside += 1
            return True
        return await self._turn(seconds)

    def leave(self) -> None:
        """Make room for the next."""
        full = not self.free
        self._inside -= 1
        self._width.served(asyncio.get_running_loop().time(), awaited=full)
        self._call()

    def pushed_back(self) -> None:
        """Let fewer in, for the relay asks for it."""
        self._width.pushed_back(asyncio.get_running_loop().time())

    async def _turn(self, seconds: float) -> bool:
        """Wait to be called; the place is then taken already."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        # Most mails wait here, and `asyncio.timeout` costs ten times as much.
        late = loop.call_later(seconds, _call_late, turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                # Called and cancelled at once: somebody else has the place then.
                self._inside -= 1
                self._call()
            raise
        finally:
            late.cancel()

    def _call(self) -> None:
        """Call as many as there is room for."""
        while self.free and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                self._inside += 1


def _call_late(turn: asyncio.Future[bool]) -> None:
    """Tell who waits that it takes too long."""
    if not turn.done():
        turn.set_result(False)
