"""The road of one delivery: decode, handle, publish what was returned, then acknowledge.

This is the only code that acknowledges. It does so after the broker has confirmed everything that
the handling led to; a process that dies before that leaves the message with the broker.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from shared import contracts, delivery, log, metrics
from shared.contracts import Contract
from shared.delivery import Delivery, Draw, Publishing
from shared.errors import Reject, Retry, Unavailable, Undecodable
from shared.retry import Later

HANDLING_SECONDS = 60.0  # a time limit of one handler, unless its subscription says otherwise
REPUBLISH_SECONDS = 1.0  # between tries to publish a result while the broker does not take it

Handler = Callable[[Any], Awaitable[Sequence[Contract | Later]]]
Send = Callable[[Publishing], Awaitable[None]]

logger = structlog.get_logger(__name__)


class Receipt(Protocol):
    """What the broker's library gives with a delivery to settle it by."""

    async def ack(self) -> None:
        """Tell the broker that the message is done with. Raises Unavailable."""

    @property
    def void(self) -> bool:
        """Whether the channel is gone: the broker has given the message to somebody else."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which handler takes which contract of a queue, how many at a time, for how long each.

    `limit` is in seconds and must stay well under the broker's consumer time-out of 30 minutes.
    """

    queue: str
    handlers: Mapping[type[Contract], Handler]
    prefetch: int
    limit: float = HANDLING_SECONDS
    keeps_failures: bool = True  # False for questions: nobody waits for a late answer


class Consumer:
    """Handles the deliveries of one subscription, each in a task of its own."""

    def __init__(self, subscription: Subscription, send: Send) -> None:
        self._subscription = subscription
        self._send = send
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, message: Delivery, receipt: Receipt) -> None:
        """Start to handle a delivery.

        In a task of our own: the library cancels its own callbacks when a channel closes, which
        would cut an SMTP conversation in the middle.
        """
        task = asyncio.create_task(self._settle(message, receipt), name=message.queue)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, deadline: float) -> None:
        """Wait up to `deadline` seconds for what is in flight, then cancel the rest.

        What is cancelled was not acknowledged, so the broker delivers it again.
        """
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=deadline)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if late:
            logger.warning("left to the broker", queue=self._subscription.queue, count=len(late))

    async def _settle(self, message: Delivery, receipt: Receipt) -> None:
        queue = message.queue
        log.bind({"queue": queue, "type": message.type, "id": message.message_id[:100]})
        begun = time.perf_counter()
        with metrics.IN_FLIGHT.labels(queue).track_inprogress():
            end, publishings = await self._decide(message)
            if await self._publish(publishings, receipt):
                await self._acknowledge(receipt)
        metrics.DELIVERIES.labels(queue, end).inc()
        metrics.HANDLING.labels(queue).observe(time.perf_counter() - begun)

    async def _decide(self, message: Delivery) -> tuple[str, list[Publishing]]:
        """Run the handler and name the end. Only a cancellation from outside comes through."""
        try:
            returned = await self._handle(message)
        except Undecodable as error:
            return self._dead(message, "undecodable", str(error))
        except Reject as error:
            return self._dead(message, "rejected", str(error))
        except Retry as error:
            return self._again(message, str(error), error.after)
        except asyncio.CancelledError:
            if _cancelled_from_outside():
                raise
            return self._again(message, "the handler was cancelled", None)
        except Exception as error:
            # A defect of one handler must not stop the consumer. Only the log gets the text:
            # a header lives as long as its dead letter.
            logger.exception("a handler failed")
            return self._again(message, type(error).__name__, None)
        return "done", delivery.finished(message, returned, _draw())

    async def _handle(self, message: Delivery) -> Sequence[Contract | Later]:
        contract = contracts.decode(message.type, message.body)
        handler = self._subscription.handlers.get(type(contract))
        if handler is None:
            raise Undecodable(f"nobody here takes {message.type}")
        try:
            async with asyncio.timeout(self._subscription.limit) as limit:
                return await handler(contract)
        except TimeoutError:
            if limit.expired():
                raise Retry(f"not done in {self._subscription.limit:g} s") from None
            raise

    def _dead(self, message: Delivery, cause: str, reason: str) -> tuple[str, list[Publishing]]:
        logger.error("to the dead letters", cause=cause, reason=reason)
        return cause, self._kept(delivery.dead(message, cause, reason, datetime.now(UTC)))

    def _again(
        self, message: Delivery, reason: str, wish: float | None
    ) -> tuple[str, list[Publishing]]:
        copy = delivery.failed(message, reason, wish, _draw(), datetime.now(UTC))
        logger.warning("comes again", reason=reason, attempt=message.attempt, by=copy.exchange)
        return "again", self._kept(copy)

    def _kept(self, copy: Publishing) -> list[Publishing]:
        return [copy] if self._subscription.keeps_failures else []

    async def _publish(self, publishings: Sequence[Publishing], receipt: Receipt) -> bool:
        """Publish until all is confirmed; False when the delivery is not ours any more.

        What was done cannot be undone, so its results are not given up while the broker has not
        taken the delivery back: same ids, so that a copy too many is recognised.
        """
        left = publishings
        while left := await self._unsent(left):
            if receipt.void:
                logger.warning("results lost with the channel; the message comes again")
                return False
            await asyncio.sleep(REPUBLISH_SECONDS)
        return True

    async def _unsent(self, items: Sequence[Publishing]) -> list[Publishing]:
        sent = await asyncio.gather(*map(self._sent, items))
        return [item for item, done in zip(items, sent, strict=True) if not done]

    async def _sent(self, item: Publishing) -> bool:
        try:
            await self._send(item)
        except Unavailable as error:
            logger.warning("not published", to=item.routing_key, reason=str(error))
            # An asker who cannot be reached is no reason to hold anything up.
            return not item.persistent
        return True

    async def _acknowledge(self, receipt: Receipt) -> None:
        try:
            await receipt.ack()
        except Unavailable:
            logger.warning("the channel went before the acknowledgement; the message comes again")


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _draw() -> Draw:
    return Draw(random.random(), random.random())  # noqa: S311 -- jitter, not a secret
