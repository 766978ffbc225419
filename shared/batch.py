"""Doing together what was asked for while the same was being done for others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

MOST = 500  # of one turn: the first waits for the last

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(Generic[Item, Result]):
    """Hands over to `turn` all that waits, one turn after the other, in the order it came.

    A turn gives one result for each of its items, in their order, or fails for all of them.
    """

    def __init__(self, turn: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._turn = turn
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._turning: asyncio.Task[None] | None = None

    async def add(self, item: Item, seconds: float | None = None) -> Result:
        """Give the result for `item`, or raise what its turn raises, TimeoutError after `seconds`.

        Who leaves before the turn begins takes the item back; later it changes nothing.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, told))
        if self._turning is None:
            self._turning = asyncio.create_task(self._turns(), name="batch")
        if seconds is None:
            return await told
        # A tenth of the cost of `asyncio.timeout`, which could interrupt more than this wait.
        late = loop.call_later(seconds, _end, told)
        try:
            return await told
        finally:
            late.cancel()

    async def _turns(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._take([(item, told) for item, told in group if not told.done()])
        finally:
            self._turning = None

    async def _take(self, group: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        if not group:
            return
        try:
            results = await self._turn([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 -- it is raised to all who asked
            for _, told in group:
                if not told.done():
                    told.set_exception(error)
        else:
            for (_, told), result in zip(group, results, strict=True):
                if not told.done():
                    told.set_result(result)


def _end(told: asyncio.Future[Result]) -> None:
    if not told.done():
        told.set_exception(TimeoutError())
