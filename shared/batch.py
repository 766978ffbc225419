"""Doing together what was asked for while the same was being done for others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.errors import Retry

MOST = 500  # of one turn: the first waits for the last

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(Generic[Item, Result]):
    """Hands over to `turn` all that waits, one turn after the other, in the order it came.

    A turn returns one result for each of its items, in their order. Retry and OSError fail all
    of them. Any other failure may be that of one item, so then each half has a turn of its
    own, and a poisonous item fails alone (issue 10, A3). A turn must be safe to repeat.
    """

    def __init__(self, turn: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._turn = turn
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._turning: asyncio.Task[None] | None = None

    async def add(self, item: Item, seconds: float | None = None) -> Result:
        """Return the result for `item`. Raises as its turn does, and TimeoutError after `seconds`.

        A caller that leaves before the turn begins takes the item back; later it changes nothing.
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
                await self._take(group)
        finally:
            self._turning = None

    async def _take(self, waiting: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        group = [(item, told) for item, told in waiting if not told.done()]
        if not group:
            return
        try:
            results = await self._turn([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 -- it is raised to all who asked
            await self._failed(group, error)
        else:
            for (_, told), result in zip(group, results, strict=True):
                if not told.done():
                    told.set_result(result)

    async def _failed(
        self, group: Sequence[tuple[Item, asyncio.Future[Result]]], error: Exception
    ) -> None:
        if len(group) > 1 and not isinstance(error, Retry | OSError):
            middle = len(group) // 2
            await self._take(group[:middle])
            await self._take(group[middle:])
            return
        for _, told in group:
            if not told.done():
                told.set_exception(error)


def _end(told: asyncio.Future[Result]) -> None:
    if not told.done():
        told.set_exception(TimeoutError())
