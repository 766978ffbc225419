"""Batching: one call for all the items that came while the call before was under way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.errors import Retry

MAX_BATCH_SIZE = 500  # items: the first waits for the last

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls `run_batch` with all items that wait, one batch after the other, in their order.

    `run_batch` returns one result for each item, in the same order, and must be safe to repeat.
    Retry and OSError fail the whole batch: the database is away. Any other failure may come from a
    single item, so each half runs again by itself until that item is alone (issue 10, A3). Each
    batch that is not full waits `wait_seconds` for more items.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        wait_seconds: float = 0.0,
    ) -> None:
        self._run_batch = run_batch
        self._wait_seconds = wait_seconds
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def add(self, item: Item, seconds: float | None = None) -> Result:
        """Return the result for `item`. Raises as `run_batch` does, TimeoutError after `seconds`.

        A caller that leaves before the batch begins takes the item back; later it changes nothing.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, result))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="batches")
        if seconds is None:
            return await result
        # A tenth of the cost of `asyncio.timeout`, which could interrupt more than this wait.
        timer = loop.call_later(seconds, _expire, result)
        try:
            return await result
        finally:
            timer.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                if self._wait_seconds and len(self._waiting) < MAX_BATCH_SIZE:
                    await asyncio.sleep(self._wait_seconds)
                batch = self._waiting[:MAX_BATCH_SIZE]
                self._waiting = self._waiting[MAX_BATCH_SIZE:]
                await self._run_one(batch)
        finally:
            self._running = None

    async def _run_one(self, waiting: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        batch = [(item, result) for item, result in waiting if not result.done()]
        if not batch:
            return
        try:
            results = await self._run_batch([item for item, _ in batch])
            pairs = [*zip(batch, results, strict=True)]
        except Exception as error:  # noqa: BLE001 -- it is raised to all callers
            await self._fail(batch, error)
            return
        for (_, future), result in pairs:
            if not future.done():
                future.set_result(result)

    async def _fail(
        self, batch: Sequence[tuple[Item, asyncio.Future[Result]]], error: Exception
    ) -> None:
        if len(batch) > 1 and not isinstance(error, Retry | OSError):
            middle = len(batch) // 2
            await self._run_one(batch[:middle])
            await self._run_one(batch[middle:])
            return
        for _, future in batch:
            if not future.done():
                future.set_exception(error)


def _expire(result: asyncio.Future[Result]) -> None:
    if not result.done():
        result.set_exception(TimeoutError())
