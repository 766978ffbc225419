"""Some who work at the same time until all is sent, or until it is enough."""

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Generic, TypeVar

from ops.load.door import Busy
from shared.errors import Unavailable

_PAUSE: Final = 0.5  # seconds before the same is sent again, where nobody said how many
_LONGEST_PAUSE: Final = 10.0  # seconds, whatever was said

T = TypeVar("T")
Send = Callable[[T], Awaitable[None]]
Lane = Callable[[], AbstractAsyncContextManager[Send[T]]]  # a connection, for one of the crew


class Crew(Generic[T]):
    """Sends the items, each by whoever is free, and notes how long each answer took.

    What is refused for now is sent again, the same with the same ids: whoever has it already counts
    it once. `sent` is told what was answered; what never was stays in `unsure`.
    """

    def __init__(self, items: Iterator[T], lane: Lane[T], sent: Callable[[T], None]) -> None:
        self.latencies = array("d")  # seconds, of the answers; a list would be four times as large
        self.again = 0  # times that something had to be sent again
        self.unsure: list[T] = []
        self._items = items
        self._lane = lane
        self._sent = sent
        self._enough = asyncio.Event()

    def stop(self) -> None:
        """Take no more items, and send nothing again; what is under way is waited for."""
        self._enough.set()

    async def work(self, concurrency: int, within: float) -> None:
        """Send all, or what can be sent `within` seconds. Raises LoadError when it cannot be."""
        timer = asyncio.get_running_loop().call_later(within, self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work())
        except* Exception as errors:  # noqa: BLE001 -- one of them says it all
            raise errors.exceptions[0] from None
        finally:
            timer.cancel()

    async def _work(self) -> None:
        async with self._lane() as send:
            while not self._enough.is_set() and (item := next(self._items, None)) is not None:
                await self._deliver(send, item)

    async def _deliver(self, send: Send[T], item: T) -> None:
        while True:  # until it is answered, or enough
            begun = time.perf_counter()
            try:
                await send(item)
            except Unavailable as error:
                if await self._stopped_within(_pause(error)):
                    self.unsure.append(item)
                    return
                self.again += 1
            else:
                self.latencies.append(time.perf_counter() - begun)
                self._sent(item)
                return

    async def _stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), seconds)
        return self._enough.is_set()


def _pause(error: Unavailable) -> float:
    after = error.after if isinstance(error, Busy) else None
    return min(_PAUSE if after is None else after, _LONGEST_PAUSE)
