"""Lets tasks wait for a change without polling."""

import asyncio
from collections.abc import Callable


class ChangeSignal:
    """Wakes those who wait; costs next to nothing while nobody does."""

    def __init__(self) -> None:
        self.version = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def announce(self) -> None:
        """Say that something is not as it was."""
        self.version += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        """Return at the next change."""
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
