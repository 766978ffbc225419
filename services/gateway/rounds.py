"""Questions to a database that come at the same time are asked together."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Rounds(Generic[K, V]):
    """Asks what is found under some keys, all that came during one round in the next.

    Under load a round trip then serves many requests. No answer is kept: each comes from a round
    that began after its question.
    """

    def __init__(self, ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Give what is found under `key`, None if nothing is. Raises what asking raised."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        answer = self._waiting[key]
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

    async def _round(self, asked: dict[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._ask(asked.keys())
        except Exception as error:  # noqa: BLE001 -- it is raised to everyone who asked
            for answer in asked.values():
                answer.set_exception(error)
        else:
            for key, answer in asked.items():
                answer.set_result(found.get(key))
