"""A signal of changes."""

import asyncio
from collections.abc import Callable


class ChangeSignal:
    """Wakes the tasks that wait for a change, so that they need not poll."""

    def __init__(self) -> None:
        self.version = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def announce(self) -> None:
        """Signal a change."""
        self.version += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        """Wait for the next change."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    async def wait_until(self, holds: Callable[[], bool], within: float) -> None:
        """Return once `holds()`; raise TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            while not holds():
                await self.wait()
