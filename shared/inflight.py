"""The deliveries being handled, and how a service that ends waits for each of them.

A handler marks the phase of its own delivery with `reach`. A handler that marks nothing has begun
from its first step on and is never committed.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Protocol

import structlog

from shared.errors import Unavailable

HANDLER = "a handler"  # in the log, where a handler names nothing else
REPORT_SECONDS = 30.0  # between two log lines about what the end of a service waits for

Task = asyncio.Task[None]

logger = structlog.get_logger(__name__)


class DeliveryTag(Protocol):
    """Settles one delivery, on the channel that it came by."""

    def ack(self) -> None:
        """Acknowledge the delivery. Raises Unavailable."""

    def requeue(self) -> None:
        """Return the delivery to its queue, to be delivered again. Raises Unavailable."""

    @property
    def void(self) -> bool:
        """Whether the channel is gone, so that the broker delivers the message again."""


class Phase(IntEnum):
    """The steps of a handling, by the cost of ending it there."""

    WAITING = 0  # nothing has been done: the delivery goes back to the broker at once
    BEGUN = 1  # it can be cancelled and repeated: it has the ordinary time
    COMMITTED = 2  # cancelled, its result would be unknown: it has `committed_seconds`


@dataclass(slots=True)
class Handling:
    """The handling of one delivery: its phase, since when by a clock, and what it waits for."""

    clock: Callable[[], float]
    since: float
    phase: Phase = Phase.WAITING
    waits_for: str = HANDLER


current: ContextVar[Handling | None] = ContextVar("handling", default=None)


def reach(phase: Phase, waits_for: str = HANDLER) -> None:
    """Enter a phase of the handling that this task runs; entering the present one changes nothing.

    Outside of a handling do nothing.
    """
    handling = current.get()
    if handling is not None and phase != handling.phase:
        handling.phase, handling.waits_for = phase, waits_for
        handling.since = handling.clock()


class InFlight:
    """The handlings of one queue, each in a task, and the deliveries to give back at the end."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._tasks: dict[Task, Handling] = {}
        self._unhandled: list[DeliveryTag] = []
        self._count = 0  # of deliveries
        self.is_ending = False

    def start(self, handling: Coroutine[object, object, None], *tags: DeliveryTag) -> Task:
        """Run the handling of a delivery, or of several together, in a task of its own."""
        present = Handling(time.monotonic, time.monotonic())
        token = current.set(present)  # the task copies it
        task = asyncio.create_task(handling, name=self._queue)
        current.reset(token)
        self._tasks[task] = present
        self._count += len(tags)
        task.add_done_callback(partial(self._ended, tags))
        return task

    def count(self) -> int:
        """Return the number of deliveries being handled."""
        return self._count

    def give_back(self, *tags: DeliveryTag) -> None:
        """Note deliveries that are not handled; `drain` and `cut` return them to the broker."""
        self._unhandled += tags

    def end(self) -> None:
        """Start no more handlings, and cancel those that only wait."""
        self.is_ending = True
        self._cancel(Phase.WAITING)

    async def drain(self, seconds: float, committed_seconds: float) -> None:
        """Wait `seconds` for all handlings, longer for committed ones; then cancel the rest.

        A cancelled delivery was not acknowledged: the broker gets it back at once, for another
        consumer, while this still waits.
        """
        now = asyncio.get_running_loop().time
        ordinary, committed = now() + seconds, now() + max(seconds, committed_seconds)
        self.end()
        await self._return_cancelled()
        while self._tasks and now() < committed:
            if now() >= ordinary:
                self._log_cancelled(self._cancel(Phase.BEGUN))
                await self._return_cancelled()
            self._log_waits(committed - now())
            end = ordinary if now() < ordinary else committed
            await _wait(self._tasks, min(REPORT_SECONDS, end - now()))
        await self.cut()

    async def cut(self) -> None:
        """Cancel all handlings at once."""
        self.is_ending = True
        self._log_cancelled(self._cancel(Phase.COMMITTED))
        await self._return_cancelled()

    def _ended(self, tags: Sequence[DeliveryTag], task: Task) -> None:
        del self._tasks[task]
        self._count -= len(tags)
        if task.cancelled():  # perhaps before its first step
            self._unhandled += tags

    def _cancel(self, phase: Phase) -> int:
        """Cancel the handlings that have come no further than `phase`; return how many."""
        found = [
            task
            for task, handling in self._tasks.items()
            if handling.phase <= phase and not task.cancelling()
        ]
        for task in found:
            task.cancel()
        return len(found)

    async def _return_cancelled(self) -> None:
        """Return the deliveries of cancelled handlings to the broker, for another consumer."""
        await _wait([task for task in self._tasks if task.cancelling()])
        tags, self._unhandled = self._unhandled, []
        for tag in tags:
            with suppress(Unavailable):  # then the broker has it already
                tag.requeue()
        if tags:
            logger.info("back to the broker", queue=self._queue, count=len(tags))

    def _log_cancelled(self, count: int) -> None:
        if count:
            logger.warning("left to the broker", queue=self._queue, count=count)

    def _log_waits(self, seconds: float) -> None:
        """Log what the end of the service waits for, and how long at most."""
        now = time.monotonic()
        waits = Counter(handling.waits_for for handling in self._tasks.values())
        for waits_for, count in waits.items():
            oldest = max(now - h.since for h in self._tasks.values() if h.waits_for == waits_for)
            logger.info(
                "waiting to end",
                queue=self._queue,
                waits_for=waits_for,
                count=count,
                oldest_seconds=round(oldest),
                at_most_seconds=round(seconds),
            )


async def _wait(tasks: Collection[Task], seconds: float | None = None) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=seconds)
