"""The guarantee: decode, handle, publish what was returned, and only then acknowledge.

This is the only code that acknowledges. It does so after the broker has confirmed everything that
the handler returned; a process that dies before that leaves the delivery with the broker.
"""

import asyncio
import random
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

HANDLING_SECONDS = 60.0  # a time limit of one handler, unless its subscription says otherwise
REPUBLISH_SECONDS = 1.0  # between tries to publish a result while the broker does not take it

Handler = Callable[[Any], Awaitable[Sequence[Contract | Reschedule]]]
Publish = Callable[[Publishing], Awaitable[None]]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which handler takes which contract of a queue, how many at a time, for how long each.

    `limit` is in seconds and must stay well under the broker's consumer time-out of 30 minutes.
    `committed` is how many seconds a service that ends waits for handlings in that phase; for all
    others it waits as long as for its other queues. A queue of questions has `retries` off: no
    failed question is answered or tried again, since its asker asks again or has gone. With a
    `group_size` up to so many deliveries that come together share a task and are acknowledged
    together, see `GroupConsumer`: for a small event a task of its own costs more than the rest.
    """

    queue: str
    handlers: Mapping[type[Contract], Handler]
    prefetch: int
    limit: float = HANDLING_SECONDS
    committed: float = 0.0
    retries: bool = True
    group_size: int = 1


class HandlingResult(NamedTuple):
    """How the handling of a delivery ended, and what is to be published for it."""

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
        self._backlog = Backlog(room)
        self._metrics = QueueMetrics(subscription.queue)

    def take(self, message: Delivery, tag: DeliveryTag) -> None:
        """Handle a delivery; it is finished even when the channel that it came by is gone."""
        if self._in_flight.is_ending:
            self._in_flight.give_back(tag)
        elif self._backlog.admit(message, tag):
            self._start(message, tag)

    def release(self) -> None:
        """Begin nothing more; each handling that only waits is cancelled."""
        self._in_flight.give_back(*self._backlog.clear())
        self._in_flight.end()

    async def drain(self, seconds: float) -> None:
        """Finish what is in flight, within `seconds`, when no more deliveries come."""
        self.release()
        await self._in_flight.drain(seconds, self._subscription.committed)

    async def cut(self) -> None:
        """Cancel what is in flight, and leave it to the broker."""
        self.release()
        await self._in_flight.cut()

    def _start(self, message: Delivery, tag: DeliveryTag) -> None:
        self._process_soon([message], tag)

    def _process_soon(self, group: Sequence[Delivery], tag: DeliveryTag) -> None:
        task = self._in_flight.start(self._process(group, tag), tag)
        task.add_done_callback(partial(self._leave, [len(message.body) for message in group]))

    def _leave(self, sizes: Sequence[int], _: asyncio.Task[None]) -> None:
        for size in sizes:
            for message, tag in self._backlog.leave(size):
                self._start(message, tag)

    async def _process(self, group: Sequence[Delivery], tag: DeliveryTag) -> None:
        """Decode, handle, publish what was returned, and only then acknowledge."""
        inflight.reach(Phase.BEGUN)
        with self._metrics.handling(len(group)) as measured:
            try:
                results = await self._handle_all(group)  # Retry and Reject have become messages
                messages = [message for result in results for message in result.messages]
                if await self._publish_all(messages, tag):
                    await tag.ack()
            except Unavailable:
                logger.warning("the channel closed before the acknowledgement; it comes again")
            except Exception:
                # Without an answer it would hold its place in the prefetch for ever.
                logger.exception("requeued after an internal error")
                with suppress(Unavailable):
                    await tag.requeue()
                return
            measured.results = [result.name for result in results]

    async def _handle_all(self, group: Sequence[Delivery]) -> Sequence[HandlingResult]:
        if len(group) == 1:
            return [await self._handle(group[0])]
        return await asyncio.gather(*map(self._handle, group))

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
        seconds = self._subscription.limit
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._subscription.handlers[type(contract)](contract)
        except TimeoutError:
            if limit.expired():
                raise Retry(f"not done in {seconds:g} s") from None
            raise

    async def _publish_all(self, messages: Sequence[Publishing], tag: DeliveryTag) -> bool:
        """Publish until all is confirmed; False when the delivery is not ours any more.

        What was done cannot be undone, so its results are tried again until the broker has taken
        the delivery back: with the same ids, so that a copy too many is recognised.
        """
        left = messages
        while left := await self._unconfirmed(left):
            if tag.void:
                logger.warning("results lost with the channel; the message comes again")
                return False
            await asyncio.sleep(REPUBLISH_SECONDS)
        return True

    async def _unconfirmed(self, messages: Sequence[Publishing]) -> Sequence[Publishing]:
        """Publish some messages; return those to be tried again."""
        # Answers first: no confirm comes for them, and an asker waits. They are tried once.
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
            # header lives as long as its dead letter.
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
