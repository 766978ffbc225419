"""Work that a service does again and again beside its queues, such as clearing out old rows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

Work = Callable[[], Awaitable[object]]

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def repeating(work: Work, seconds: float, name: str) -> AsyncIterator[None]:
    """Do `work` at once and then every `seconds`, until the block is left.

    Leaving cancels it in the middle, so it must leave nothing half done. When it fails, the log
    tells, and its next turn comes as if nothing had happened.
    """
    task = asyncio.create_task(_repeat(work, seconds, name), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(work: Work, seconds: float, name: str) -> None:
    while True:
        try:
            await work()
        except Exception:
            logger.exception("periodic work failed", work=name)
        await asyncio.sleep(seconds)
