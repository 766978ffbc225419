"""Reading a queue: by a consumer that attaches again, or message by message."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import structlog
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands

from shared import contracts, delivery, identity, topology
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.rabbitmq import connection as connections
from shared.rabbitmq import frames
from shared.rabbitmq.channel import Channel
from shared.rabbitmq.connection import CLOSE_SECONDS, CONNECT_SECONDS, Connection, translated
from shared.retry import MAX_ATTEMPTS
from shared.runtime import metrics
from shared.runtime.outage import Outage

TOO_LARGE, UNREADABLE = "too_large", "unreadable"  # why a message is rejected unread
_ADVICE = "make the queue by 'ops topology declare', and the rights by 'ops topology grant'"
MAX_TRACE_BYTES = 512  # that every participant propagates (W3C Trace Context 3.3.1.5), all ASCII

OnDelivery = Callable[[Delivery, "ChannelTag"], None]

logger = structlog.get_logger(__name__)


class ChannelTag(NamedTuple):
    """Settles one delivery, on the channel that it came by."""

    channel: Channel
    number: int

    def ack(self) -> None:
        """Acknowledge the message. Raises Unavailable."""
        self.channel.ack(self.number)

    def requeue(self) -> None:
        """Return the message to its queue. Raises Unavailable."""
        self.channel.nack(self.number, requeue=True)

    def reject(self) -> None:
        """Reject the message: the broker moves it to the dead letters. Raises Unavailable."""
        self.channel.nack(self.number, requeue=False)

    @property
    def void(self) -> bool:
        """Whether the channel is gone, so that the broker delivers the message again."""
        return not self.channel.is_open


class QueueState(NamedTuple):
    """The messages that wait in a queue, and the consumers that are attached."""

    waiting: int
    consumers: int


class QueueReader:
    """Calls `on_delivery` for each message of a queue, at most `prefetch` of them unsettled."""

    def __init__(
        self, connection: Connection, queue: str, prefetch: int, on_delivery: OnDelivery
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._channel: Channel | None = None
        self._consumer_tag: str | None = None
        self._ended = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_attached(self) -> bool:
        """Whether the broker delivers messages of the queue."""
        return self._consumer_tag is not None and not self._ended.is_set()

    async def open(self) -> None:
        """Start to read. Raises Unavailable when the queue is missing."""
        try:
            await self._attach()
        except Unavailable as error:
            raise Unavailable(f"{error}; {_ADVICE}") from error
        self._keeping = asyncio.create_task(self._keep(), name=f"reader {self._queue}")

    async def stop(self) -> None:
        """Stop reading; deliveries that have come can still be settled."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        channel, consumer_tag, is_attached = self._channel, self._consumer_tag, self.is_attached
        self._consumer_tag = None
        if channel is not None and consumer_tag is not None and is_attached:
            with suppress(Unavailable), translated("not cancelled"):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await channel.library.basic_cancel(consumer_tag)

    async def close(self) -> None:
        """Close the channel when the broker has processed all acknowledgements."""
        if self._channel is not None:
            await _flush(self._channel, self._queue)

    async def _attach(self) -> None:
        ended = asyncio.Event()
        with translated(f"cannot consume {self._queue}"):
            if self._channel is None or not self._channel.is_open:
                self._channel = await self._connection.channel(prefetch=self._prefetch)
            library = self._channel.library
            library.on_consumer_cancel_callbacks.clear()
            library.on_consumer_cancel_callbacks.add(lambda _: ended.set())
            library.closing.add_done_callback(lambda _: ended.set())
            async with asyncio.timeout(CONNECT_SECONDS):
                consumer_tag = await self._channel.consume(
                    self._queue, partial(self._on_deliver, self._channel)
                )
        self._ended, self._consumer_tag = ended, consumer_tag

    async def _keep(self) -> None:
        """Attach again whenever the consumer or its channel has ended, until cancelled."""
        outage = Outage("the queue", self._queue, "AMQP_URL")
        while True:
            await self._ended.wait()
            logger.warning("the consumer of the queue has ended", queue=self._queue)
            self._consumer_tag = None
            while self._consumer_tag is None:
                try:
                    await self._attach()
                    outage.end()
                    logger.info("the queue is consumed again", queue=self._queue)
                except Exception as error:  # noqa: BLE001 -- whatever it is, a consumer comes back
                    outage.log(error, _ADVICE)
                    await asyncio.sleep(connections.RECONNECT_SECONDS)

    def _on_deliver(self, channel: Channel, arguments: bytes, header: bytes, body: bytes) -> None:
        """Pass a message on; reject one that cannot be, so that it becomes a dead letter."""
        number, key = frames.delivered(arguments)
        channel.track(number)
        tag = ChannelTag(channel, number)
        try:
            received = Received(key, frames.properties(header), body)
            message = read(self._queue, received, self._connection.user)
            if len(body) <= contracts.max_bytes(message.type):
                self._on_delivery(message, tag)
                return
            self._refuse(tag, TOO_LARGE, id=message.message_id[:100], bytes=len(body))
        except Exception as error:  # noqa: BLE001 -- unsettled it would keep its place for ever
            self._refuse(tag, UNREADABLE, exc_info=error, bytes=len(body))

    def _refuse(self, tag: ChannelTag, cause: str, **more: object) -> None:
        logger.error("to the dead letters", cause=cause, queue=self._queue, **more)
        metrics.DELIVERIES.labels(self._queue, cause).inc()
        with suppress(Unavailable):  # it comes again on another channel
            tag.reject()


class Received(NamedTuple):
    """A message as it came; the names of properties are pamqp's."""

    routing_key: str
    properties: Mapping[str, Any]
    body: bytes


class Fetched(NamedTuple):
    """One message that was fetched from a queue, with all of its headers."""

    delivery: Delivery
    headers: dict[str, Any]
    tag: ChannelTag


@asynccontextmanager
async def fetching(
    connection: Connection, queue: str
) -> AsyncIterator[tuple[int, AsyncIterator[Fetched]]]:
    """Yield the number of messages that wait in a queue, and each of those once.

    Messages that are not acknowledged in the block go back to the queue. Raises Unavailable.
    """
    channel = await connection.channel()
    try:
        with translated(f"cannot read {queue}"):
            async with asyncio.timeout(CONNECT_SECONDS):
                declared = await channel.library.queue_declare(queue, passive=True)
        waiting = declared.message_count or 0
        yield waiting, _fetched(channel, queue, waiting, connection.user)
    finally:
        await _flush(channel, queue)


async def read_states(
    connection: Connection, queues: Iterable[str]
) -> Mapping[str, QueueState | None]:
    """Return the state of each queue, which takes any right on it; None for one that is missing.

    Raises Unavailable.
    """
    states: dict[str, QueueState | None] = {}
    channel: Channel | None = None
    for queue in queues:
        channel = channel or await connection.channel()
        with translated(f"cannot count {queue}"):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    found = await channel.library.queue_declare(queue, passive=True)
            except ChannelNotFoundEntity:
                states[queue], channel = None, None  # the broker has closed it
                continue
        states[queue] = QueueState(found.message_count or 0, found.consumer_count or 0)
    # After a failure or a cancelled call the channel closes by itself: to close it again would end
    # the connection, or wait for ever.
    if channel is not None:
        with translated("not closed"):
            async with asyncio.timeout(CLOSE_SECONDS):
                await channel.library.close()
    return states


async def count_waiting(connection: Connection, queue: str) -> int:
    """Return how many messages wait in a queue, which takes any right on it. Raises Unavailable."""
    channel = await connection.channel()
    with translated(f"cannot count {queue}"):
        async with asyncio.timeout(CONNECT_SECONDS):
            try:
                declared = await channel.library.queue_declare(queue, passive=True)
            finally:
                await channel.library.close()
    return declared.message_count or 0


async def _fetched(channel: Channel, queue: str, limit: int, reader: str) -> AsyncIterator[Fetched]:
    for _ in range(limit):
        with translated(f"cannot read {queue}"):
            async with asyncio.timeout(CONNECT_SECONDS):
                message = await channel.library.basic_get(queue)
        if not isinstance(message.delivery, commands.Basic.GetOk):
            return
        tag = ChannelTag(channel, message.delivery_tag or 0)
        channel.track(tag.number)
        received = _received(message)
        headers = received.properties.get("headers") or {}
        yield Fetched(read(queue, received, reader), headers, tag)


def _received(message: DeliveredMessage) -> Received:
    return Received(message.routing_key or "", dict(message.header.properties), message.body)


async def _flush(channel: Channel, queue: str) -> None:
    """Close a channel when the broker has processed all its acknowledgements.

    A quorum queue's channel puts acknowledgements aside while 32 are under way, and forgets them
    when it closes. The answer to `basic.get` comes after all of them; its message goes back unread.
    """
    with suppress(Unavailable), translated("not flushed"):
        async with asyncio.timeout(CLOSE_SECONDS):
            try:
                channel.send_acks()
                await channel.library.basic_get(queue)
            finally:
                await channel.library.close()


def read(queue: str, message: Received, reader: str) -> Delivery:
    """Return the delivery for a message that came; `reader` is our own user of the broker."""
    text = message.properties.get
    headers = text("headers") or {}  # none if they could not be read
    message_id = text("message_id") or ""
    stated = headers.get(identity.USER)
    publisher = identity.identify(
        queue, reader, text("user_id"), None if stated is None else str(stated)
    )
    return Delivery(
        queue=queue,
        type=text("message_type") or topology.type_of(message.routing_key),
        body=message.body,
        message_id=message_id,
        correlation_id=text("correlation_id") or message_id,
        reply_to=text("reply_to"),
        attempt=_attempt(headers) if publisher.is_copy else 1,
        trace=_trace(headers) if headers else {},
        publisher=publisher,
    )


def _trace(headers: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers that go on to copies, which must fit into a frame."""
    found = {name: headers.get(name) for name in delivery.TRACE}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and value.isascii() and len(value) <= MAX_TRACE_BYTES
    }


def _attempt(headers: Mapping[str, Any]) -> int:
    attempt = headers.get(delivery.ATTEMPT)
    return min(attempt, MAX_ATTEMPTS) if isinstance(attempt, int) and attempt > 0 else 1
