"""A service in the process of its test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from shared.config.settings import Settings
from tests.waiting import PATIENCE_SECONDS

S = TypeVar("S", bound=Settings)


@asynccontextmanager
async def serving(
    run: Callable[[S, asyncio.Event], Coroutine[Any, Any, None]], settings: S
) -> AsyncIterator[None]:
    """Run a service beside the block; it must end in time when it is told to."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task
