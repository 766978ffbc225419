"""The road of many deliveries at once, for a handler to which many cost little more than one.

What they say is gathered while the batch before is handled: of a message that is read its handler
may need far less than the whole.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from shared import delivery, settling
from shared.backlog import Backlog
from shared.consumer import HANDLING_SECONDS
from shared.contracts import Contract
from shared.delivery import Delivery
from shared.errors import Retry
from shared.runtime import log, metrics, turns
from shared.settling import End, Receipt, Send

OCTETS = 6 << 20  # of bodies in one call: what is gathered of them may take some times as much
DONE = "done"
TURN_OCTETS = 16 << 10  # of bodies, which take about a millisecond to read

BatchHandler = Callable[[Any], Awaitable[Sequence[Contract]]]


class Gathering(Protocol):
    """What the messages of one batch say; it gives way to others while it works for long."""

    async def add(self, message: Any) -> None:  # noqa: ANN401 -- one of the subscription's contracts
        """Take a message in, all of it or, when it raises Reject, nothing."""

    async def close(self) -> None:
        """Make ready for the handler: all is added."""

    async def clear(self) -> None:
        """Let go of what was gathered: the handler has done all that it wants with it."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Which handler takes the messages of a queue, at most `most` of them in one call.

    It is given what `gather` made, which took in the messages. None is added to a batch that has
    OCTETS. It waits up to `seconds` for a batch to fill. `limit` is in seconds, for one call. A
    message that cannot be taken in is settled by itself. Retry is the end of all in the call; any
    other failure may be that of one message, so then each half is gathered and handled by itself.
    """

    queue: str
    contracts: tuple[type[Contract], ...]
    gather: Callable[[], Gathering]
    handler: BatchHandler
    prefetch: int
    most: int
    seconds: float
    limit: float = HANDLING_SECONDS


class _Gathered(NamedTuple):
    ends: Sequence[End]  # of what cannot be read
    reads: Sequence[Delivery]
    gathering: Gathering  # of these


class _Batch(NamedTuple):
    waiting: Sequence[tuple[Delivery, Receipt]]
    gathered: _Gathered


class Batching:
    """Handles the deliveries of one subscription, one batch after the other.

    While one is handled, the next is read.
    """

    def __init__(self, subscription: Batches, send: Send) -> None:
        self._subscription = subscription
        self._send = send
        self._waiting = Backlog()
        self._octets = 0  # of what waits
        self._full = asyncio.Event()
        self._draining = False
        self._task: asyncio.Task[None] | None = None
        self._metrics = metrics.Handling(subscription.queue)

    def take(self, message: Delivery, receipt: Receipt) -> None:
        """Put a delivery into the next batch."""
        self._waiting.append(message, receipt)
        self._octets += len(message.body)
        if self._is_full:
            self._full.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=message.queue)

    async def drain(self, deadline: float) -> None:
        """Wait up to `deadline` seconds for what has come, then leave the rest to the broker."""
        self._draining = True
        self._full.set()
        if self._task is not None:
            await settling.drained({self._task}, deadline)
            settling.left(self._subscription.queue, len(self._waiting.clear()))

    async def cut(self) -> None:
        """End at once, and leave what is not acknowledged to the broker."""
        if self._task is not None and await settling.cut({self._task}):
            settling.left(self._subscription.queue, len(self._waiting.clear()))

    async def _work(self) -> None:
        """Handle what waits; it ends when nothing does."""
        log.bind({"queue": self._subscription.queue})
        ahead: asyncio.Task[_Batch] | None = None
        done: _Batch | None = None
        try:
            while ahead or self._waiting:
                batch = await (ahead or self._read(done))
                ahead = asyncio.create_task(self._read(done)) if self._waiting else None
                done = batch if await self._settle(batch) else None
        finally:
            if ahead:
                ahead.cancel()

    @property
    def _is_full(self) -> bool:
        """Whether more would not come, or not into this batch."""
        most = min(self._subscription.most, self._subscription.prefetch)
        return self._draining or len(self._waiting) >= most or self._octets >= OCTETS

    async def _fill(self) -> None:
        if self._subscription.seconds and not self._is_full:
            self._full.clear()
            try:
                async with asyncio.timeout(self._subscription.seconds):
                    await self._full.wait()
            except TimeoutError:
                return

    def _next(self) -> Sequence[tuple[Delivery, Receipt]]:
        batch: list[tuple[Delivery, Receipt]] = []
        octets = 0
        while self._waiting and len(batch) < self._subscription.most and octets < OCTETS:
            message, receipt = self._waiting.popleft()
            batch.append((message, receipt))
            octets += len(message.body)
        self._octets -= octets
        # What a lost channel gave comes again; all others are of the one channel there is.
        return [(message, receipt) for message, receipt in batch if not receipt.void]

    async def _settle(self, batch: _Batch) -> bool:
        """Handle a batch to its end; tell whether the handler has done what it had to."""
        if not batch.waiting:
            return True
        begun, (_, last) = time.perf_counter(), batch.waiting[-1]
        self._metrics.in_flight.inc(len(batch.waiting))
        try:
            ends = await self._ends(batch.gathered)
            publishings = [item for end in ends for item in end.publishings]
            if await settling.published(publishings, last, self._send):
                # Batches end in the order in which they came: all before this one are settled.
                settling.acknowledge(last, multiple=True)
        except Exception as error:  # noqa: BLE001 -- told there
            settling.give_back(last, error, multiple=True)
            return False
        finally:
            self._metrics.in_flight.dec(len(batch.waiting))
        seconds = time.perf_counter() - begun
        for end in ends:
            self._metrics.ended(end.name, seconds, end.count)
        return any(end.name == DONE for end in ends)

    async def _read(self, done: _Batch | None) -> _Batch:
        """Gather the next batch, when the objects of one that is done with are gone."""
        if done is not None:
            await done.gathered.gathering.clear()
        await self._fill()
        waiting = self._next()
        return _Batch(waiting, await self._gathered([message for message, _ in waiting]))

    async def _gathered(self, messages: Sequence[Delivery]) -> _Gathered:
        ends: list[End] = []
        reads: list[Delivery] = []
        gathering, octets = self._subscription.gather(), 0
        for message in messages:
            octets += len(message.body)
            try:
                contract = delivery.contract(message, self._subscription.contracts)
                if octets >= TURN_OCTETS:
                    octets = 0
                    await turns.give_way()
                await gathering.add(contract)
                reads.append(message)
            except Exception as error:  # noqa: BLE001 -- it is told, and settles this one alone
                ends.append(settling.failed(message, error))
        try:
            await gathering.close()
        except Exception as error:  # noqa: BLE001 -- it is told, and settles all that was read
            ends += [settling.failed(each, error) for each in reads]
            reads = []
        return _Gathered(ends, reads, gathering)

    async def _ends(self, gathered: _Gathered) -> list[End]:
        handled = await self._together(gathered) if gathered.reads else ()
        return [*gathered.ends, *handled]

    async def _together(self, gathered: _Gathered) -> list[End]:
        """Return the ends of some messages. Only a cancellation from outside comes through."""
        try:
            returned = await self._handle(gathered.gathering)
            publishings = [delivery.publishing(each) for each in returned]
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and settling.cancelled_from_outside():
                raise
            if isinstance(error, Retry | asyncio.CancelledError) or len(gathered.reads) == 1:
                return [settling.failed(each, error) for each in gathered.reads]
            return await self._halved(gathered.reads)
        return [End(DONE, publishings, len(gathered.reads))]

    async def _halved(self, messages: Sequence[Delivery]) -> list[End]:
        """Handle each half by itself: one of them may be why all failed (issue 10, A3)."""
        middle = len(messages) // 2
        ends: list[End] = []
        for half in (messages[:middle], messages[middle:]):
            gathered = await self._gathered(half)
            ends += await self._ends(gathered)
            await gathered.gathering.clear()
        return ends

    async def _handle(self, gathering: Gathering) -> Sequence[Contract]:
        async with settling.within(self._subscription.limit):
            return await self._subscription.handler(gathering)
