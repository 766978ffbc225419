"""Questions to a database that come at the same time are asked together."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class Rounds(Generic[T]):
    """Asks which of some items exist, all that came during one round in the next.

    Under load a round trip then serves many requests. No answer is kept: each comes from a round
    that began after its question.
    """

    def __init__(self, ask: Callable[[Collection[T]], Awaitable[Collection[T]]]) -> None:
        self._ask = ask
        self._waiting: dict[T, asyncio.Future[bool]] = {}
        self._running: asyncio.Task[None] | None = None

    async def has(self, item: T) -> bool:
        """Tell whether `item` exists. Raises what asking raised."""
        if item not in self._waiting:
            self._waiting[item] = asyncio.get_running_loop().create_future()
        answer = self._waiting[item]
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="rounds")
        # One who goes away must not cancel the others' answer.
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                await self._round(asked)
        finally:
            self._running = None

    async def _round(self, asked: dict[T, asyncio.Future[bool]]) -> None:
        try:
            found = await self._ask(asked.keys())
        except Exception as error:  # noqa: BLE001 -- it is raised to everyone who asked
            for answer in asked.values():
                answer.set_exception(error)
        else:
            for item, answer in asked.items():
                answer.set_result(item in found)
