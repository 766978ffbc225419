"""How a delivery ends: its results published and confirmed, then acknowledged.

This is the only code that acknowledges. It does so after the broker has confirmed everything that
the handling led to; a process that dies before that leaves the message with the broker.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from shared import delivery
from shared.delivery import Delivery, Jitter, Publishing
from shared.errors import Reject, Retry, Unavailable, Undecodable

REPUBLISH_SECONDS = 1.0  # between tries to publish a result while the broker does not take it

Send = Callable[[Publishing], Awaitable[None]]

logger = structlog.get_logger(__name__)


class Receipt(Protocol):
    """What comes with a delivery to settle it by."""

    def ack(self, *, multiple: bool = False) -> None:
        """Tell the broker that the message, or all up to it, is done with. Raises Unavailable."""

    def requeue(self, *, multiple: bool = False) -> None:
        """Let the message, or all up to it, be delivered again. Raises Unavailable."""

    @property
    def void(self) -> bool:
        """Whether the channel is gone: the broker has given the message to somebody else."""


@dataclass(frozen=True, slots=True)
class End:
    """How the handling of `count` deliveries ended, in a word, and what it is to publish."""

    name: str
    publishings: Sequence[Publishing]
    count: int = 1


def failed(message: Delivery, error: BaseException) -> End:
    """Give the end of a delivery whose handling raised `error`."""
    match error:
        case Undecodable():
            return _dead(message, "undecodable", str(error))
        case Reject():
            return _dead(message, "rejected", str(error))
        case Retry():
            return _again(message, str(error), error.after)
        case asyncio.CancelledError():
            return _again(message, "the handler was cancelled", None)
        case _:
            # A defect of one handler must not stop the consumer. Only the log gets the text: a
            # header lives as long as its dead letter.
            logger.error("a handler failed", exc_info=error)
            return _again(message, type(error).__name__, None)


def draw_jitter() -> Jitter:
    """Jitter the jitter of one delay."""
    return Jitter(random.random(), random.random())  # noqa: S311 -- jitter, not a secret


async def published(items: Sequence[Publishing], receipt: Receipt, send: Send) -> bool:
    """Publish until all is confirmed; False when the delivery is not ours any more.

    What was done cannot be undone, so its results are not given up while the broker has not
    taken the delivery back: same ids, so that a copy too many is recognised.
    """
    left = items
    while left := await _unsent(left, send):
        if receipt.void:
            logger.warning("results lost with the channel; the message comes again")
            return False
        await asyncio.sleep(REPUBLISH_SECONDS)
    return True


def acknowledge(receipt: Receipt, *, multiple: bool = False) -> None:
    """Acknowledge, if the channel is still there; else the message comes again."""
    try:
        receipt.ack(multiple=multiple)
    except Unavailable:
        logger.warning("the channel went before the acknowledgement; the message comes again")


def give_back(receipt: Receipt, error: Exception, *, multiple: bool = False) -> None:
    """Leave to the broker what a defect of our own, `error`, keeps us from settling.

    It comes again at once, so often as the queue's delivery limit allows, and then to the dead
    letters. Kept, it would take a place of the prefetch for ever, or end with the next batch.
    """
    logger.error("not settled; the message comes again", exc_info=error)
    with suppress(Unavailable):
        receipt.requeue(multiple=multiple)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Give a handler so long. Raises Retry when it is not done by then."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise Retry(f"not done in {seconds:g} s") from None
        raise


async def drained(tasks: AbstractSet[asyncio.Task[None]], deadline: float) -> int:
    """Wait up to `deadline` seconds for what is in flight, then cancel the rest; tell how many.

    What is cancelled was not acknowledged, so the broker delivers it again.
    """
    await ended(tasks, deadline)
    return await cut(tasks)


async def ended(tasks: Collection[asyncio.Task[None]], seconds: float | None = None) -> None:
    """Wait for the end of tasks, at most for so long."""
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=seconds)


async def cut(tasks: Collection[asyncio.Task[None]]) -> int:
    """Cancel what is in flight and wait for its end; tell how many tasks that were."""
    late = [task for task in tasks if not task.done()]
    for task in late:
        task.cancel()
    await ended(late)
    return len(late)


def left(queue: str, count: int) -> None:
    """Tell, if it is so, that some deliveries were not handled before the end."""
    if count:
        logger.warning("left to the broker", queue=queue, count=count)


def cancelled_from_outside() -> bool:
    """Tell whether the current task is to end, or something within it was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _unsent(items: Sequence[Publishing], send: Send) -> list[Publishing]:
    # Answers first: nobody confirms them, and somebody waits for them.
    for item in items:
        if not item.persistent:
            await _sent(item, send)
    kept = [item for item in items if item.persistent]
    if len(kept) == 1:  # as for most mails: no task of its own
        sent = [await _sent(kept[0], send)]
    else:
        sent = await asyncio.gather(*(_sent(item, send) for item in kept))
    return [item for item, done in zip(kept, sent, strict=True) if not done]


async def _sent(item: Publishing, send: Send) -> bool:
    try:
        await send(item)
    except Unavailable as error:
        logger.warning("not published", to=item.routing_key, reason=str(error))
        # An answer is not tried again: an asker who cannot be reached holds nothing up.
        return False
    return True


def _dead(message: Delivery, cause: str, reason: str) -> End:
    logger.error("to the dead letters", cause=cause, reason=reason)
    return End(cause, [delivery.dead(message, cause, reason, datetime.now(UTC))])


def _again(message: Delivery, reason: str, wish: float | None) -> End:
    copy = delivery.failed(message, reason, wish, draw_jitter(), datetime.now(UTC))
    logger.warning("comes again", reason=reason, attempt=message.attempt, by=copy.exchange)
    return End("again", [copy])
