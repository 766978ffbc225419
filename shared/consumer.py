"""The guarantee: decode, handle, publish what was returned, and only then acknowledge.

No other code of a service acknowledges. It does so after the broker has confirmed everything that
the handler returned; a process that dies before that leaves the delivery with the broker.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import structlog

from shared import delivery, inflight
from shared.backlog import MAX_HELD_BYTES, Backlog
from shared.contracts import Contract
from shared.delivery import Delivery, Jitter, Publishing
from shared.errors import Reject, Retry, Unavailable, Undecodable
from shared.inflight import DeliveryTag, InFlight, Phase
from shared.retry import Reschedule
from shared.runtime import log
from shared.runtime.metrics import QueueMetrics

HANDLING_SECONDS = 60.0  # the time limit of a handler, unless its subscription has another
REPUBLISH_SECONDS = 1.0  # between two tries to publish a result

Handler = Callable[[Any], Awaitable[Sequence[Contract | Reschedule]]]
Publish = Callable[[Publishing], Awaitable[None]]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which handler takes which contract of a queue, how many at a time, for how long each.

    `limit_seconds` must stay well under the broker's consumer time-out of 30 minutes. A service
    that ends waits up to `committed_seconds` for handlings in that phase, if that is longer than
    its wait for all others. A queue of questions has `retries` off: a question that fails is
    neither answered nor tried again, since its asker asks again or has gone. With a `group_size`
    other work of the loop has its turn after so many deliveries, see `GroupConsumer`.

    The deliveries of `shards`, further queues, are handled alike and in turn with those of `queue`:
    `prefetch` at a time of all queues together, while as many of each queue wait in this process.
    """

    queue: str
    handlers: Mapping[type[Contract], Handler]
    prefetch: int
    limit_seconds: float = HANDLING_SECONDS
    committed_seconds: float = 0.0
    retries: bool = True
    group_size: int = 1
    shards: Sequence[str] = ()

    @property
    def queues(self) -> Sequence[str]:
        """The names of all its queues."""
        return (self.queue, *self.shards)


class HandlingResult(NamedTuple):
    """The name of the result of a handling, for the metrics, and the messages to publish."""

    name: str
    messages: Sequence[Publishing] = ()


class Consumer:
    """Handles the deliveries of one subscription, each in a task of its own."""

    def __init__(
        self, subscription: Subscription, publish: Publish, room: int = MAX_HELD_BYTES
    ) -> None:
        self._subscription = subscription
        self._contracts = tuple(subscription.handlers)
        self._publish = publish
        self._in_flight = InFlight(subscription.queue)
        self._backlog = Backlog(room, subscription.prefetch if subscription.shards else None)
        self._metrics = QueueMetrics(subscription.queue, self._in_flight.count)

    def take(self, message: Delivery, tag: DeliveryTag) -> None:
        """Start to handle a delivery; the handling goes on even when its channel closes."""
        if self._in_flight.is_ending:
            self._in_flight.give_back(tag)
        elif self._backlog.admit(message, tag):
            self._start(message, tag)

    def release(self) -> None:
        """Start no more handlings, and cancel those that only wait."""
        self._in_flight.give_back(*self._backlog.clear())
        self._in_flight.end()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the handlings in flight, then cancel the rest."""
        self.release()
        await self._in_flight.drain(seconds, self._subscription.committed_seconds)

    async def cut(self) -> None:
        """Cancel the handlings in flight; the broker delivers their messages again."""
        self.release()
        await self._in_flight.cut()

    def _start(self, message: Delivery, tag: DeliveryTag) -> None:
        task = self._in_flight.start(self._process(message, tag), tag)
        if self._backlog.counts(len(message.body)):
            task.add_done_callback(partial(self._leave, len(message.body)))

    def _leave(self, size: int, _: asyncio.Task[None]) -> None:
        for message, tag in self._backlog.leave(size):
            self._start(message, tag)

    async def _process(self, message: Delivery, tag: DeliveryTag) -> None:
        """Decode, handle, publish what was returned, and only then acknowledge."""
        inflight.reach(Phase.BEGUN)
        begun = time.perf_counter()
        result = await self._handle(message)  # Retry and Reject have become messages by now
        try:
            if await self._publish_all(result.messages, tag):
                tag.ack()
        except Unavailable:
            logger.warning("the channel closed before the acknowledgement; it comes again")
        except Exception:
            # An unsettled delivery keeps its place in the prefetch until the channel closes.
            logger.exception("requeued after an internal error")
            with suppress(Unavailable):
                tag.requeue()
            return
        self._metrics.handled(result.name, time.perf_counter() - begun)

    async def _handle(self, message: Delivery) -> HandlingResult:
        """Run the handler under its time limit. Raises only a cancellation from outside."""
        log.bind({"queue": message.queue, "type": message.type, "id": message.message_id[:100]})
        try:
            contract = delivery.contract(message, self._contracts)
            returned = await self._call(contract)
            return HandlingResult("done", delivery.finished(message, returned, _jitter()))
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled_from_outside():
                raise
            return _failed(message, error) if self._subscription.retries else _unanswered(error)

    async def _call(self, contract: Contract) -> Sequence[Contract | Reschedule]:
        """Call the handler of a contract. Raises Retry after the time limit."""
        seconds = self._subscription.limit_seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._subscription.handlers[type(contract)](contract)
        except TimeoutError:
            if limit.expired():
                raise Retry(f"not done in {seconds:g} s") from None
            raise

    async def _publish_all(self, messages: Sequence[Publishing], tag: DeliveryTag) -> bool:
        """Publish until all messages are confirmed; return False if the channel closes first.

        A handler's work cannot be undone, so its results are published again and again until the
        broker delivers the message again. Their ids stay the same: consumers recognise copies.
        """
        left = messages
        while left and (left := await self._unconfirmed(left)):
            if tag.void:
                logger.warning("results lost with the channel; the message comes again")
                return False
            await asyncio.sleep(REPUBLISH_SECONDS)
        return True

    async def _unconfirmed(self, messages: Sequence[Publishing]) -> Sequence[Publishing]:
        """Publish messages; return those that were not confirmed."""
        # Replies first: an asker waits for them. They have no confirm and are tried once.
        for message in messages:
            if not message.persistent:
                await self._is_published(message)
        kept = [message for message in messages if message.persistent]
        if len(kept) <= 1:  # as for most mails: no task of its own
            return [message for message in kept if not await self._is_published(message)]
        confirmed = await asyncio.gather(*map(self._is_published, kept))
        return [message for message, done in zip(kept, confirmed, strict=True) if not done]

    async def _is_published(self, message: Publishing) -> bool:
        try:
            await self._publish(message)
        except Unavailable as error:
            logger.warning("not published", to=message.routing_key, reason=str(error))
            return False
        return True


def _failed(message: Delivery, error: BaseException) -> HandlingResult:
    """Return the copy of a delivery whose handling raised `error`: delayed, or a dead letter."""
    match error:
        case Undecodable():
            return _dead(message, "undecodable", str(error))
        case Reject():
            return _dead(message, "rejected", str(error))
        case Retry():
            return _delayed(message, str(error), error.after)
        case asyncio.CancelledError():
            return _delayed(message, "the handler was cancelled")
        case _:
            # A defect of one handler must not stop the consumer. Only the log gets the text: a
            # header is stored as long as its dead letter.
            logger.error("a handler failed", exc_info=error)
            return _delayed(message, type(error).__name__)


def _dead(message: Delivery, cause: str, reason: str) -> HandlingResult:
    logger.error("to the dead letters", cause=cause, reason=reason)
    return HandlingResult(cause, [delivery.dead(message, cause, reason, datetime.now(UTC))])


def _delayed(message: Delivery, reason: str, requested: float | None = None) -> HandlingResult:
    copy = delivery.failed(message, reason, requested, _jitter(), datetime.now(UTC))
    logger.warning("comes again", reason=reason, attempt=message.attempt, by=copy.exchange)
    return HandlingResult("again", [copy])


def _unanswered(error: BaseException) -> HandlingResult:
    """Return the end of a question that cannot be answered."""
    if isinstance(error, Undecodable | Retry | Reject):
        logger.warning("not answered", reason=str(error))
    else:
        logger.error("not answered", exc_info=error)
    return HandlingResult("unanswered")


def _jitter() -> Jitter:
    return Jitter(random.random(), random.random())  # noqa: S311 -- jitter, not a secret


def _is_cancelled_from_outside() -> bool:
    """Return whether the current task is to end, and not only something within it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
