"""The guarantee: decode, handle, publish what was returned, and only then acknowledge.

No other code of a service acknowledges. It does so after the broker has confirmed everything that
the handler returned; a process that dies before that leaves the delivery with the broker.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import structlog

from shared import delivery, inflight
from shared.backlog import MAX_HELD_BYTES, Backlog
from shared.contracts import Contract
from shared.dead_letter import UNDECODABLE
from shared.delivery import Delivery, Jitter, Publishing
from shared.errors import DatabaseAway, Reject, Retry, Unavailable, Undecodable
from shared.inflight import DeliveryTag, InFlight, Phase
from shared.retry import Reschedule
from shared.runtime import log, tracing
from shared.runtime.metrics import QueueMetrics
from shared.topology import QUESTION_SECONDS

HANDLING_SECONDS = 60.0  # the time limit of a handler, unless its subscription has another
REPUBLISH_SECONDS = 1.0  # between two tries to publish a result
DATABASE_SECONDS = 1.0  # between two tries of a handler whose database is away
MAX_GROUP_BYTES = 64 << 10  # of bodies, which take about a millisecond to decode
DONE, REQUEUED = "done", "requeued"  # ends of a handling; the second is one of a defect
PAUSE_ITERATIONS = 4  # of the loop: in so many a question is read, handled, answered and sent

Handler = Callable[[Any], Awaitable[Sequence[Contract | Reschedule]]]
BatchHandler = Callable[[Sequence[Any]], Awaitable[None]]
Publish = Callable[[Publishing], Awaitable[None]]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which handler takes which contract of a queue, how many at a time, for how long each.

    `limit_seconds` must stay well under the broker's consumer time-out of 30 minutes. A service
    that ends waits up to `committed_seconds` for handlings in that phase, if that is longer than
    its wait for all others. A queue of questions has `retries` off: a question that fails is
    neither answered nor tried again, since its asker asks again or has gone. With a `group_size`
    other work of the loop has its turn after so many deliveries, see `GroupConsumer`; with a
    `handle_batch` so many are handled in one call of it, see `BatchConsumer`.

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
    handle_batch: BatchHandler | None = None
    shards: Sequence[str] = ()

    @classmethod
    def to_questions(
        cls, queue: str, handlers: Mapping[type[Contract], Handler], prefetch: int
    ) -> Self:
        """Return a subscription to questions: late or failed ones are neither answered nor kept."""
        return cls(queue, handlers, prefetch, limit_seconds=QUESTION_SECONDS, retries=False)

    @property
    def queues(self) -> Sequence[str]:
        """The names of all its queues."""
        return (self.queue, *self.shards)


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
        elif len(message.body) <= self._backlog.free_bytes or self._backlog.admit(message, tag):
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
        if len(message.body) > self._backlog.free_bytes:
            task.add_done_callback(partial(self._leave, len(message.body)))

    def _leave(self, size: int, _: asyncio.Task[None]) -> None:
        for message, tag in self._backlog.leave(size):
            self._start(message, tag)

    async def _process(self, message: Delivery, tag: DeliveryTag) -> None:
        """Handle a delivery to its end, in a span of its trace."""
        inflight.reach(Phase.BEGUN)
        begun = time.perf_counter()
        log.bind({"queue": message.queue, "type": message.type, "id": message.message_id[:100]})
        with tracing.processing(message) as span:
            end = await self._settle(message, tag)
            tracing.processed(span, end)
        if end != REQUEUED:
            self._metrics.handled(end, time.perf_counter() - begun)

    async def _settle(self, message: Delivery, tag: DeliveryTag) -> str:
        """Decode, handle, publish what was returned, and only then acknowledge.

        Return the end of the handling, as metrics name it.
        """
        end = DONE
        limit = asyncio.timeout(self._subscription.limit_seconds)
        try:
            try:
                contract = delivery.contract(message, self._contracts)
                async with limit:
                    returned = await self._handle(contract)
                results = delivery.finished(message, returned, _jitter)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled_from_outside():
                    raise
                if isinstance(error, TimeoutError) and limit.expired():
                    error = Retry(f"not done in {self._subscription.limit_seconds:g} s")
                failed = _failed if self._subscription.retries else _unanswered
                end, results = failed(message, error)
            if not results or await self._publish_all(results, tag):
                tag.ack()
        except Unavailable:
            logger.warning("the channel closed before the acknowledgement; it comes again")
        except Exception:
            # An unsettled delivery keeps its place in the prefetch until the channel closes.
            logger.exception("requeued after an internal error")
            with suppress(Unavailable):
                tag.requeue()
            return REQUEUED
        return end

    async def _handle(self, contract: Contract) -> Sequence[Contract | Reschedule]:
        """Call the handler until its database answers; a question is not kept waiting.

        A delivery that waits here keeps its place in the prefetch. So an outage uses up no attempts
        of all that is queued, and work goes on when it ends, not when a delay of minutes does.
        """
        handler = self._subscription.handlers[type(contract)]
        is_logged = False
        while True:
            try:
                return await handler(contract)
            except DatabaseAway as error:
                if self._in_flight.is_ending or not self._subscription.retries:
                    raise
                if not is_logged:
                    logger.warning("waiting for the database", reason=str(error))
                    is_logged = True
            inflight.reach(Phase.WAITING)
            await asyncio.sleep(DATABASE_SECONDS)
            inflight.reach(Phase.BEGUN)

    async def _publish_all(self, messages: Sequence[Publishing], tag: DeliveryTag) -> bool:
        """Publish until all messages are confirmed; return False if the channel closes first.

        A handler's work cannot be undone, so its results are published again and again until the
        broker delivers the message again. Their ids stay the same: consumers recognise copies.
        """
        # Replies first: an asker waits for them. They have no confirm and are tried once.
        for message in messages:
            if not message.persistent:
                await self._is_published(message)
        left = [message for message in messages if message.persistent]
        while left:
            if len(left) == 1:  # as for most mails: no task of its own
                confirmed = [await self._is_published(left[0])]
            else:
                confirmed = await asyncio.gather(*map(self._is_published, left))
            left = [message for message, done in zip(left, confirmed, strict=True) if not done]
            if left and tag.void:
                logger.warning("results lost with the channel; the message comes again")
                return False
            if left:
                await asyncio.sleep(REPUBLISH_SECONDS)
        return True

    async def _is_published(self, message: Publishing) -> bool:
        try:
            await self._publish(message)
        except Unavailable as error:
            logger.warning("not published", to=message.routing_key, reason=str(error))
            return False
        return True


class GroupConsumer(Consumer):
    """Starts the deliveries of one subscription in groups; each is handled and settled alone.

    A group has up to `group_size` deliveries, or MAX_GROUP_BYTES. Between two groups the loop has
    time for other work: a question does not wait until all that has come is decoded. Handlers of
    one group run at once, so that a store with a `Batcher` has them in one transaction.
    """

    def __init__(self, subscription: Subscription, publish: Publish) -> None:
        # Half of it is handled in one transaction while the other half is decoded.
        super().__init__(subscription, publish, MAX_HELD_BYTES // 2)
        self._group_size = subscription.group_size
        self._waiting: deque[tuple[Delivery, DeliveryTag]] = deque()
        self._starting: asyncio.Task[None] | None = None

    def release(self) -> None:
        """Start no more handlings; deliveries that wait for a group go back to the broker."""
        super().release()
        self._in_flight.give_back(*(tag for _, tag in self._waiting))
        self._waiting.clear()

    def _start(self, message: Delivery, tag: DeliveryTag) -> None:
        self._waiting.append((message, tag))
        if self._starting is None:
            # The task runs after all deliveries of this iteration of the loop have come.
            self._starting = asyncio.create_task(self._start_groups(), name="groups")

    async def _start_groups(self) -> None:
        try:
            while self._waiting:
                self._start_group()
                for _ in range(PAUSE_ITERATIONS):
                    await asyncio.sleep(0)
        finally:
            self._starting = None

    def _start_group(self) -> None:
        count = size = 0
        while self._waiting and count < self._group_size and size < MAX_GROUP_BYTES:
            message, tag = self._waiting.popleft()
            super()._start(message, tag)
            count, size = count + 1, size + len(message.body)


def _failed(message: Delivery, error: BaseException) -> tuple[str, list[Publishing]]:
    """Return the end of a handling that raised `error`: its name, and the copy of the delivery.

    Retry and Reject become such copies, for a delay queue or the dead letters.
    """
    match error:
        case Undecodable():
            return _dead(message, UNDECODABLE, str(error))
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


def _dead(message: Delivery, cause: str, reason: str) -> tuple[str, list[Publishing]]:
    logger.error("to the dead letters", cause=cause, reason=reason)
    return cause, [delivery.dead(message, cause, reason, datetime.now(UTC))]


def _delayed(
    message: Delivery, reason: str, requested: float | None = None
) -> tuple[str, list[Publishing]]:
    copy = delivery.failed(message, reason, requested, _jitter(), datetime.now(UTC))
    logger.warning("comes again", reason=reason, attempt=message.attempt, by=copy.exchange)
    return "again", [copy]


def _unanswered(_: Delivery, error: BaseException) -> tuple[str, list[Publishing]]:
    """Return the end of a question that cannot be answered."""
    if isinstance(error, Undecodable | Retry | Reject):
        logger.warning("not answered", reason=str(error))
    else:
        logger.error("not answered", exc_info=error)
    return "unanswered", []


def _jitter() -> Jitter:
    return Jitter(random.random(), random.random())  # noqa: S311 -- jitter, not a secret


def is_cancelled_from_outside() -> bool:
    """Return whether the current task is to end, and not only something within it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
