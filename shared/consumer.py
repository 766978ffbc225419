"""The road of one delivery: decode, handle, publish what was returned, then acknowledge."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from shared import delivery, inflight, settling
from shared.backlog import MAX_HELD_BYTES, Backlog
from shared.contracts import Contract
from shared.contracts.message import SMALL_BYTES
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.inflight import InFlight, Phase
from shared.retry import Reschedule
from shared.runtime import log, metrics
from shared.settling import End, Receipt, Send

HANDLING_SECONDS = 60.0  # a time limit of one handler, unless its subscription says otherwise

REPORT_SECONDS = 30.0  # between two log lines about what the end of a service waits for

Handler = Callable[[Any], Awaitable[Sequence[Contract | Reschedule]]]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which handler takes which contract of a queue, how many at a time, for how long each.

    `limit` is in seconds and must stay well under the broker's consumer time-out of 30 minutes.
    `committed` is how many seconds a service that ends waits for handlings in that phase; for all
    others it waits as long as for its other queues.
    """

    queue: str
    handlers: Mapping[type[Contract], Handler]
    prefetch: int
    limit: float = HANDLING_SECONDS
    committed: float = 0.0
    keeps_failures: bool = True  # False for questions: nobody waits for a late answer


class Consumer:
    """Handles the deliveries of one subscription, each in a task of its own.

    The bodies being handled have MAX_HELD_BYTES; the others wait on disk. Only large ones count
    and wait: a code does not wait for an attachment.
    """

    def __init__(self, subscription: Subscription, send: Send) -> None:
        self._subscription = subscription
        self._send = send
        self._tasks: dict[asyncio.Task[None], InFlight] = {}
        self._released: list[Receipt] = []  # of what was ended and goes back to the broker
        self._ending = False
        self._held = 0  # bytes of large bodies
        self._backlog = Backlog(room=0)
        self._metrics = metrics.Handling(subscription.queue)

    def take(self, message: Delivery, receipt: Receipt) -> None:
        """Start to handle a delivery; it is finished even when the channel that gave it is gone."""
        if self._ending:
            self._released.append(receipt)
        elif self._has_room(len(message.body)):
            self._start(message, receipt)
        else:
            self._backlog.append(message, receipt)

    def _has_room(self, size: int) -> bool:
        return size <= SMALL_BYTES or not self._held or self._held + size <= MAX_HELD_BYTES

    def _start(self, message: Delivery, receipt: Receipt) -> None:
        work, size = InFlight(), len(message.body)
        task = asyncio.create_task(self._settle(message, receipt, work), name=message.queue)
        self._tasks[task] = work
        task.add_done_callback(partial(self._ended, receipt))
        if size > SMALL_BYTES:
            self._held += size
            task.add_done_callback(partial(self._make_room, size))

    def _make_room(self, size: int, _: asyncio.Task[None]) -> None:
        self._held -= size
        while self._backlog and self._has_room(self._backlog.first_size):
            message, receipt = self._backlog.popleft()
            if not receipt.void:  # else it comes again on another channel
                self._start(message, receipt)

    def release(self) -> None:
        """Begin nothing more: what only waits is ended, and goes back to the broker in `drain`."""
        self._ending = True
        self._released += self._backlog.clear()
        self._cancel(Phase.WAITING)

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for what is in flight, longer for what is committed; end the rest.

        Call it when no more deliveries come. What was ended was not acknowledged: the broker gets
        it back at once, for others, while this still waits.
        """
        now = asyncio.get_running_loop().time
        ordinary, committed = now() + seconds, now() + max(seconds, self._subscription.committed)
        self.release()
        await self._give_back()
        while self._tasks and now() < committed:
            if now() >= ordinary:
                settling.left(self._subscription.queue, self._cancel(Phase.BEGUN))
                await self._give_back()
            self._report(committed - now())
            end = ordinary if now() < ordinary else committed
            await settling.ended(self._tasks, min(REPORT_SECONDS, end - now()))
        await self.cut()

    async def cut(self) -> None:
        """End at once what is in flight."""
        self._ending = True
        self._released += self._backlog.clear()
        settling.left(self._subscription.queue, self._cancel(Phase.COMMITTED))
        await self._give_back()

    def _ended(self, receipt: Receipt, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if task.cancelled():  # perhaps before its first step
            self._released.append(receipt)

    def _cancel(self, phase: Phase) -> int:
        """End the handlings that have come no further than `phase`; return how many."""
        found = [
            task
            for task, work in self._tasks.items()
            if work.phase <= phase and not task.cancelling()
        ]
        for task in found:
            task.cancel()
        return len(found)

    async def _give_back(self) -> None:
        """Return what was ended to the broker, which delivers it to another consumer."""
        await settling.ended([task for task in self._tasks if task.cancelling()])
        released, self._released = self._released, []
        for receipt in released:
            with suppress(Unavailable):  # then the broker has it already
                receipt.requeue()
        if released:
            logger.info("back to the broker", queue=self._subscription.queue, count=len(released))

    def _report(self, seconds: float) -> None:
        """Log what the end of the service waits for."""
        waits = Counter(work.waits_for for work in self._tasks.values())
        for waits_for, count in waits.items():
            oldest = max(w.seconds for w in self._tasks.values() if w.waits_for == waits_for)
            logger.info(
                "waiting to end",
                queue=self._subscription.queue,
                waits_for=waits_for,
                count=count,
                oldest_seconds=round(oldest),
                at_most_seconds=round(seconds),
            )

    async def _settle(self, message: Delivery, receipt: Receipt, work: InFlight) -> None:
        inflight.current.set(work)
        work.reach(Phase.BEGUN)
        log.bind({"queue": message.queue, "type": message.type, "id": message.message_id[:100]})
        begun = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            end = await self._handled(message)
            if await settling.published(end.publishings, receipt, self._send):
                settling.acknowledge(receipt)
        except Exception as error:  # noqa: BLE001 -- told there
            settling.give_back(receipt, error)
            return
        finally:
            self._metrics.in_flight.dec()
        self._metrics.ended(end.name, time.perf_counter() - begun)

    async def _handled(self, message: Delivery) -> End:
        """Run the handler and name the end. Only a cancellation from outside comes through."""
        try:
            returned = await self._handle(message)
            publishings = delivery.finished(message, returned, settling.draw_jitter())
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and settling.cancelled_from_outside():
                raise
            end = settling.failed(message, error)
            return end if self._subscription.keeps_failures else End(end.name, ())
        return End("done", publishings)

    async def _handle(self, message: Delivery) -> Sequence[Contract | Reschedule]:
        handlers = self._subscription.handlers
        contract = delivery.contract(message, tuple(handlers))
        handler = handlers[type(contract)]
        async with settling.within(self._subscription.limit):
            return await handler(contract)
