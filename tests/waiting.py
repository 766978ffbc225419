"""Waiting for a condition that has no event."""

import asyncio
from collections.abc import Awaitable, Callable

# For what must happen: a limit costs nothing while it holds, and on a busy machine a process takes
# ten seconds to start. A test has twice as long.
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.02  # between two looks


async def until(holds: Callable[[], Awaitable[bool]], within: float = PATIENCE_SECONDS) -> None:
    """Check again and again until `holds`; use an event wherever there is one.

    Raises TimeoutError after `within` seconds.
    """
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110 -- what is looked at has no event to await
            await asyncio.sleep(LOOK_SECONDS)
