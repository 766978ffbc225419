"""The one seam to RabbitMQ: connections, confirmed publishing, questions, consuming.

Nothing else imports aio_pika. There are two connections, since an alarm of the broker stops all
reading from a connection that publishes, acknowledgements included.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Self

import aio_pika
import structlog
from aio_pika.abc import (
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractRobustChannel,
    AbstractRobustConnection,
    AbstractRobustQueue,
)
from aio_pika.exceptions import AMQPError, AuthenticationError, ProbableAuthenticationError
from yarl import URL

from shared import contracts, delivery, letter, metrics
from shared.consumer import Consumer, Subscription
from shared.contracts import Contract
from shared.delivery import Delivery, Publishing
from shared.errors import NoAnswer, Unavailable, Undecodable
from shared.letter import Letter
from shared.topology import Exchange, Queue

PUBLISH_SECONDS = 5.0  # for a confirm, the wait for a connection included
CONNECT_SECONDS = 10.0
PATIENCE_SECONDS = 30.0  # for a broker that is still starting
CLOSE_SECONDS = 5.0  # each closing step may hang while the broker is away (aio-pika#253)
RECONNECT_SECONDS = 1.0
DRAIN_SECONDS = 25.0  # under the 30 that supervisors commonly leave before they kill
# A dead peer is noticed after three times this and a little; the default is three minutes.
HEARTBEAT_SECONDS = 10
MAX_UNCONFIRMED = 500  # publishings under way at once
DIRECT_REPLY = "amq.rabbitmq.reply-to"

# What aio-pika raises while the broker is away or refuses. A closed channel is a RuntimeError.
_FAILURES = (AMQPError, OSError, RuntimeError, TimeoutError)

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Settles one delivery; it can be done only on the channel that gave it."""

    message: AbstractIncomingMessage

    async def ack(self) -> None:
        """Acknowledge. Raises Unavailable when the channel is gone."""
        try:
            await self.message.ack()
        except _FAILURES as error:
            raise Unavailable(str(error)) from error

    @property
    def void(self) -> bool:
        """Whether the channel is gone, so that the broker delivers the message again."""
        try:
            return self.message.channel.is_closed
        except RuntimeError:
            return True


@dataclass(frozen=True, slots=True)
class Pile:
    """The letters of a queue, each of those `waiting` at the start once.

    No more than those: what is replayed may well come back dead.
    """

    waiting: int
    letters: AsyncIterator[tuple[Letter, Receipt]]


class Broker:
    """A service's door to RabbitMQ. Made by `Broker.connect`, which also closes it."""

    def __init__(self, name: str, url: URL, closing: AsyncExitStack) -> None:
        self._name = name
        self._url = url
        self._closing = closing
        self._slots = asyncio.Semaphore(MAX_UNCONFIRMED)
        self._conversations: dict[str, asyncio.Queue[Contract]] = {}
        self._consumers: list[tuple[AbstractRobustQueue, str]] = []
        self._leaving = False

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, name: str, patience: float = PATIENCE_SECONDS
    ) -> AsyncIterator[Self]:
        """Open both connections as service `name`; wait `patience` seconds for a broker.

        Raises Unavailable when none answers, or at once when it refuses the login.
        """
        async with AsyncExitStack() as closing:
            broker = cls(name, URL(url), closing)
            await broker._open(patience)
            try:
                yield broker
            finally:
                broker._leaving = True

    async def _open(self, patience: float) -> None:
        self._publishing = await self._connection("publish", patience)
        self._consuming = await self._connection("consume", patience)
        self._channel = await self._confirming_channel()
        self._asking = await self._confirming_channel()
        self._exchanges: dict[tuple[AbstractRobustChannel, str], AbstractExchange] = {}
        # A passive declare of this name only checks, and puts the consumer among those that
        # are restored after a reconnect.
        replies = await self._asking.declare_queue(DIRECT_REPLY, passive=True)
        await replies.consume(self._on_reply, no_ack=True)

    async def _connection(self, purpose: str, patience: float) -> AbstractRobustConnection:
        url = self._url.update_query(
            heartbeat=HEARTBEAT_SECONDS,
            reconnect_interval=RECONNECT_SECONDS,
            name=f"{self._name} {purpose}",
        )
        give_up = asyncio.get_running_loop().time() + patience
        while True:
            try:
                connection = await aio_pika.connect_robust(url, timeout=CONNECT_SECONDS)
            except (AuthenticationError, ProbableAuthenticationError) as error:
                raise Unavailable(f"{masked(self._url)} refuses the login: {error}") from error
            except _FAILURES as error:
                if asyncio.get_running_loop().time() > give_up:
                    raise Unavailable(f"{masked(self._url)} does not answer: {error}") from error
                logger.info("waiting for the broker", reason=str(error))
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                self._closing.push_async_callback(_within_limit, connection.close)
                connection.close_callbacks.add(partial(self._tell_loss, purpose))
                connection.reconnect_callbacks.add(partial(_tell_return, purpose))
                return connection

    def _tell_loss(self, purpose: str, *_: object) -> None:
        if not self._leaving:
            logger.warning("connection lost", purpose=purpose)

    async def _confirming_channel(self) -> AbstractRobustChannel:
        # Without on_return_raises a message that matched no queue counts as published.
        return await self._publishing.channel(publisher_confirms=True, on_return_raises=True)

    async def ready(self) -> bool:
        """Tell whether publishing works and every consumer is attached."""
        if not self._publishing.connected.is_set():
            return False
        for queue, tag in self._consumers:
            with suppress(*_FAILURES):
                async with asyncio.timeout(1):
                    channel = await queue.channel.get_underlay_channel()
                    if tag in getattr(channel, "consumers", ()):
                        continue
            return False
        return True

    async def publish(self, message: Contract, correlation_id: str | None = None) -> None:
        """Publish a command or event; return when the broker has confirmed that it is kept.

        Raises Unavailable after at most PUBLISH_SECONDS. The message may be kept even then, so
        try again with the same id.
        """
        await self.send(delivery.publishing(message, correlation_id))

    async def send(self, item: Publishing) -> None:
        """Publish what a delivery led to. Raises Unavailable, see `publish`."""
        await self._send(self._channel, item)

    async def ask(self, question: Contract, within: float) -> Contract:
        """Publish a question and give its answer.

        Raises Unavailable (see `publish`), or NoAnswer after `within` seconds.
        """
        async with self.converse(question) as replies:
            try:
                async with asyncio.timeout(within):
                    return await replies.get()
            except TimeoutError:
                raise NoAnswer(f"no answer to {question.routing_key} in {within:g} s") from None

    @asynccontextmanager
    async def converse(self, message: Contract) -> AsyncIterator[asyncio.Queue[Contract]]:
        """Publish a message and give the queue of all that its handler answers, as it comes.

        Replies are not kept for an asker who was cut off, so always wait with a limit. Raises
        Unavailable, see `publish`.
        """
        replies: asyncio.Queue[Contract] = asyncio.Queue()
        self._conversations[message.id] = replies
        try:
            await self._send(self._asking, delivery.publishing(message, reply_to=DIRECT_REPLY))
            yield replies
        finally:
            del self._conversations[message.id]

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        replies = self._conversations.get(message.correlation_id or "")
        if replies is None:
            return
        try:
            replies.put_nowait(contracts.decode(message.type or "", message.body))
        except Undecodable as error:
            logger.warning("an answer that cannot be read", reason=str(error))

    async def _send(self, channel: AbstractRobustChannel, item: Publishing) -> None:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS), self._slots:
                # The library learns of a lost connection in a task of its own, so let it run:
                # a closed channel raises at once, and a caller that tries again at once would
                # keep the loop from ever hearing that it is closed. Then wait out the outage.
                await asyncio.sleep(0)
                await channel.ready()
                exchange = await self._exchange(channel, item.exchange)
                await exchange.publish(
                    self._message(item), item.routing_key, mandatory=item.mandatory
                )
        except asyncio.CancelledError:
            # A connection that dies of missed heartbeats ends its waiters by a cancellation
            # that nobody asked for.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._count(item, "failed")
            raise Unavailable("the connection was lost") from None
        except _FAILURES as error:
            self._count(item, "failed")
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        self._count(item, "confirmed")

    def _count(self, item: Publishing, end: str) -> None:
        metrics.PUBLISHED.labels(item.exchange or "reply", end).inc()

    async def _exchange(self, channel: AbstractRobustChannel, name: str) -> AbstractExchange:
        if (channel, name) not in self._exchanges:
            self._exchanges[channel, name] = await channel.get_exchange(name, ensure=False)
        return self._exchanges[channel, name]

    def _message(self, item: Publishing) -> aio_pika.Message:
        mode = aio_pika.DeliveryMode
        return aio_pika.Message(
            item.body,
            app_id=self._name,
            content_type="application/json",
            correlation_id=item.correlation_id,
            delivery_mode=mode.PERSISTENT if item.persistent else mode.NOT_PERSISTENT,
            headers=dict(item.headers),
            message_id=item.message_id,
            reply_to=item.reply_to,
            timestamp=datetime.now(UTC),
            type=item.type,
        )

    @asynccontextmanager
    async def consuming(
        self, *subscriptions: Subscription, drain: float = DRAIN_SECONDS
    ) -> AsyncIterator[None]:
        """Handle the messages of some queues until the block is left.

        Then take no more, finish what is in flight within `drain` seconds, and leave the rest to
        the broker. Raises Unavailable when a queue is missing.
        """
        consumers = [(Consumer(each, self.send), each) for each in subscriptions]
        try:
            for consumer, subscription in consumers:
                await self._subscribe(consumer, subscription)
            yield
        finally:
            tags, self._consumers = self._consumers, []
            await asyncio.gather(
                *(_within_limit(partial(queue.cancel, tag)) for queue, tag in tags)
            )
            await asyncio.gather(*(consumer.drain(drain) for consumer, _ in consumers))
            await asyncio.gather(*(_flush(queue) for queue, _ in tags))
            await asyncio.gather(*(_within_limit(queue.channel.close) for queue, _ in tags))

    async def _subscribe(self, consumer: Consumer, subscription: Subscription) -> None:
        async def on_message(message: AbstractIncomingMessage) -> None:
            consumer.take(_delivery(subscription.queue, message), Receipt(message))

        try:
            channel = await self._consuming.channel(publisher_confirms=False)
            await channel.set_qos(subscription.prefetch)
            queue = await channel.declare_queue(subscription.queue, passive=True)
            self._consumers.append((queue, await queue.consume(on_message)))
        except _FAILURES as error:
            raise Unavailable(f"cannot consume {subscription.queue}: {error}") from error

    @asynccontextmanager
    async def browsing(self, queue: str) -> AsyncIterator[Pile]:
        """Look at dead letters without taking them: what is not acknowledged goes back at the end.

        Raises Unavailable, also while they are read.
        """
        try:
            channel = await self._consuming.channel(publisher_confirms=False)
            source = await channel.declare_queue(queue, passive=True)
        except _FAILURES as error:
            raise Unavailable(f"cannot read {queue}: {error}") from error
        try:
            waiting = source.declaration_result.message_count or 0
            yield Pile(waiting, _letters(source, waiting))
        finally:
            await _flush(source)
            await _within_limit(channel.close)


async def declare(url: str, exchanges: Iterable[Exchange], queues: Sequence[Queue]) -> None:
    """Make exchanges, queues and bindings; harmless when they are there already.

    Raises Unavailable, also when one is there with other arguments: those can never be changed.
    """
    try:
        connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS)
        async with connection, connection.channel() as channel:
            for exchange in exchanges:
                await channel.declare_exchange(
                    exchange.name,
                    exchange.kind,
                    durable=True,
                    arguments={"alternate-exchange": exchange.alternate}
                    if exchange.alternate
                    else None,
                )
            for queue in queues:
                declared = await channel.declare_queue(
                    queue.name, durable=True, arguments=dict(queue.arguments)
                )
                for binding in queue.bindings:
                    await declared.bind(binding.exchange, binding.key)
    except _FAILURES as error:
        raise Unavailable(f"{masked(URL(url))}: {error}") from error


def masked(url: URL) -> str:
    """Give a broker's address without the password."""
    return str(url.with_password("***") if url.password else url.with_query(None))


def _delivery(queue: str, message: AbstractIncomingMessage) -> Delivery:
    attempt = message.headers.get(delivery.ATTEMPT)
    kind = message.type or message.routing_key or ""
    message_id = message.message_id or ""
    return Delivery(
        queue=queue,
        type=kind,
        body=message.body,
        message_id=message_id,
        correlation_id=message.correlation_id or message_id,
        reply_to=message.reply_to,
        attempt=attempt if isinstance(attempt, int) and attempt > 0 else 1,
        trace={
            name: str(message.headers[name]) for name in delivery.TRACE if name in message.headers
        },
    )


async def _letters(queue: AbstractRobustQueue, limit: int) -> AsyncIterator[tuple[Letter, Receipt]]:
    for _ in range(limit):
        try:
            message = await queue.get(fail=False, timeout=CONNECT_SECONDS)
        except _FAILURES as error:
            raise Unavailable(f"cannot read {queue.name}: {error}") from error
        if message is None:
            return
        yield letter.read(_delivery(queue.name, message), message.headers), Receipt(message)


def _tell_return(purpose: str, *_: object) -> None:
    logger.info("connection is back", purpose=purpose)


async def _flush(queue: AbstractRobustQueue) -> None:
    """Return when the broker has taken all acknowledgements of this channel.

    A quorum queue's channel puts acknowledgements aside while 32 are under way, and forgets them
    when it closes. What is fetched now is answered after all of them, and goes back unread.
    """
    await _within_limit(partial(queue.get, fail=False))


async def _within_limit(close: Callable[[], Awaitable[object]]) -> None:
    """Take a closing step, but not for ever: what does not close now dies with the process."""
    with suppress(*_FAILURES):
        async with asyncio.timeout(CLOSE_SECONDS):
            await close()
