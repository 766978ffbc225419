"""A way to consume: a queue whose messages come in for as long as it is open."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from shared import contracts, delivery, identity
from shared.amqp.channel import Channel, Consumption, Incoming
from shared.amqp.connection import CLOSE_SECONDS
from shared.amqp.errors import AmqpError, Closed
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.link import RECONNECT_SECONDS, Link
from shared.retry import MAX_ATTEMPTS
from shared.runtime import metrics
from shared.runtime.outage import Outage

TOO_LARGE = "too_large"
MAX_TRACE_CHARS = 512  # what everybody hands on (W3C Trace Context, 3.3.1.5)
_ADVICE = "make the queue by 'ops topology declare', and the rights by 'ops topology grant'"

logger = structlog.get_logger(__name__)


class Receipt(NamedTuple):
    """Settles one delivery; it can be done only on the channel that gave it."""

    channel: Channel
    tag: int

    async def ack(self) -> None:
        """Acknowledge the delivery. Raises Unavailable."""
        try:
            self.channel.ack(self.tag)
        except Closed as error:
            raise Unavailable(str(error)) from error

    async def requeue(self) -> None:
        """Return the delivery to its queue, to be delivered again. Raises Unavailable."""
        try:
            self.channel.requeue(self.tag)
        except Closed as error:
            raise Unavailable(str(error)) from error

    def reject(self) -> None:
        """Reject the message: the broker moves it to the dead letters. Raises Unavailable."""
        try:
            self.channel.reject(self.tag)
        except Closed as error:
            raise Unavailable(str(error)) from error

    @property
    def void(self) -> bool:
        """Whether the channel is gone, so that the broker delivers the message again."""
        return self.channel.closed is not None


Take = Callable[[Delivery, Receipt], None]


class Intake:
    """Calls `take` for each message of a queue, at most `prefetch` of them unsettled."""

    def __init__(self, link: Link, queue: str, prefetch: int, take: Take) -> None:
        self._link = link
        self._queue = queue
        self._prefetch = prefetch
        self._take = take
        self._channel: Channel | None = None
        self._consumption: Consumption | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_attached(self) -> bool:
        """Whether messages would come in just now."""
        return self._consumption is not None and not self._consumption.ended.is_set()

    async def open(self) -> None:
        """Begin. Raises Unavailable when the queue is missing."""
        try:
            await self._attach()
        except (AmqpError, OSError) as error:
            raise Unavailable(f"cannot consume {self._queue}: {error}; {_ADVICE}") from error
        self._keeping = asyncio.create_task(self._keep(), name=f"intake {self._queue}")

    async def stop(self) -> None:
        """Take no more; what has come can still be settled."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        channel, consumption = self._channel, self._consumption
        if channel is not None and consumption is not None and self.is_attached:
            with suppress(AmqpError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await channel.cancel(consumption)

    async def close(self) -> None:
        """Let the broker take all acknowledgements, and close."""
        if self._channel is not None:
            await flush(self._channel, self._queue)

    async def _attach(self) -> None:
        if self._channel is None or self._channel.closed is not None:
            self._channel = await self._link.channel(prefetch=self._prefetch)
        self._consumption = await self._channel.consume(self._queue, self._on_message, wants=fits)

    async def _keep(self) -> None:
        """Attach again whenever the broker or the network has ended it, until cancelled."""
        outage = Outage("the queue", self._queue, "AMQP_URL")
        while True:
            if self._consumption is not None:
                await self._consumption.ended.wait()
                self._consumption = None
                logger.warning("no more messages from the queue", queue=self._queue)
            try:
                await self._attach()
                outage.end()
                logger.info("messages come again", queue=self._queue)
            except (AmqpError, OSError) as error:
                outage.log(error, _ADVICE)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _on_message(self, message: Incoming) -> None:
        receipt = Receipt(message.channel, message.tag)
        if message.is_unread:
            self._refuse(message, receipt)
        else:
            self._take(read(self._queue, message, self._link.user), receipt)

    def _refuse(self, message: Incoming, receipt: Receipt) -> None:
        """Reject a body unread: the broker makes a dead letter of what it still has."""
        logger.error(
            "to the dead letters",
            cause=TOO_LARGE,
            queue=self._queue,
            id=(message.properties.message_id or "")[:100],
            bytes=message.size,
        )
        metrics.DELIVERIES.labels(self._queue, TOO_LARGE).inc()
        with suppress(Unavailable):  # it comes again on another channel
            receipt.reject()


def fits(kind: str, size: int) -> bool:
    """Return whether a body of `size` bytes may be read as a message of the type `kind`."""
    return size <= contracts.max_bytes(kind)


def read(queue: str, message: Incoming, reader: str) -> Delivery:
    """Return what came as the rest of the pipeline knows it; `reader` is our own broker user."""
    properties, headers = message.properties, message.properties.headers
    message_id = properties.message_id or ""
    stated = headers.get(identity.USER)
    publisher = identity.identify(
        queue, reader, properties.user_id, None if stated is None else str(stated)
    )
    return Delivery(
        queue=queue,
        type=properties.type or message.routing_key,
        body=message.body,
        message_id=message_id,
        correlation_id=properties.correlation_id or message_id,
        reply_to=properties.reply_to,
        attempt=_attempt(headers) if publisher.is_copy else 1,
        trace=_trace(headers),
        publisher=publisher,
    )


def _attempt(headers: Mapping[str, Any]) -> int:
    attempt = headers.get(delivery.ATTEMPT)
    return min(attempt, MAX_ATTEMPTS) if isinstance(attempt, int) and attempt > 0 else 1


def _trace(headers: Mapping[str, Any]) -> dict[str, str]:
    """Give what can be sent on: a stranger's may be anything, and of any size."""
    found = {name: headers.get(name) for name in delivery.TRACE}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and len(value) <= MAX_TRACE_CHARS
    }


async def flush(channel: Channel, queue: str) -> None:
    """Close a channel when the broker has taken all its acknowledgements.

    A quorum queue's channel puts acknowledgements aside while 32 are under way, and forgets them
    when it closes. What is fetched now is answered after all of them, and goes back unread.
    """
    with suppress(AmqpError, TimeoutError, ValueError):  # the last for a name that no queue has
        async with asyncio.timeout(CLOSE_SECONDS):
            try:
                await channel.get(queue)
            finally:
                await channel.close()
