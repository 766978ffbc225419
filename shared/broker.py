"""The one seam to RabbitMQ: confirmed publishing, questions, consuming, looking at dead letters.

There are two connections, since an alarm of the broker stops all reading from a connection that
publishes, acknowledgements included.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Self

import structlog
from prometheus_client import Counter
from yarl import URL

from shared import contracts, dead_letter, delivery, intake
from shared.amqp import declaration
from shared.amqp.channel import Channel, Incoming
from shared.amqp.connection import Connection
from shared.amqp.errors import AmqpError
from shared.asker import DIRECT_REPLY
from shared.config.settings import DRAIN_SECONDS
from shared.config.url import masked
from shared.consumer import Consumer, Subscription
from shared.contracts import Contract
from shared.dead_letter import DeadLetter
from shared.delivery import Publishing
from shared.errors import NoAnswer, Unavailable, Undecodable
from shared.intake import Intake, Receipt
from shared.lane import Lane
from shared.link import CONNECT_SECONDS, HEARTBEAT_SECONDS, Link
from shared.runtime import metrics
from shared.runtime.outage import described
from shared.topology import Exchange, Queue

PATIENCE_SECONDS = 30.0  # for a broker that is still starting

# ValueError is for a message that no frame can hold: its id or key is too long.
_FAILURES = (AmqpError, OSError, ValueError)

Hear = Callable[[Contract], None]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """The letters of a queue, each of those `waiting` at the start once.

    No more than those: what is replayed may well come back dead.
    """

    waiting: int
    letters: AsyncIterator[tuple[DeadLetter, Receipt]]


class Broker:
    """A service's door to RabbitMQ. Made by `Broker.connect`, which also closes it."""

    def __init__(self, name: str, publishing: Link, consuming: Link) -> None:
        self._publishing = publishing
        self._consuming = consuming
        self._keeping = Lane(publishing, name)
        self._answering = Lane(publishing, name, confirms=False)
        self._ordering = Lane(publishing, name, self._await_replies)
        self._asking = Lane(publishing, name, self._await_replies, confirms=False)
        # By the message's id; the same message may be said twice at once, see `request_stream`.
        self._conversations: dict[str, list[Hear]] = {}
        self._intakes: tuple[Intake, ...] = ()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, name: str, patience: float = PATIENCE_SECONDS
    ) -> AsyncIterator[Self]:
        """Open both connections as service `name`; wait `patience` seconds for a broker.

        Raises Unavailable when none answers, or at once when it refuses the login.
        """
        where = URL(url)
        async with (
            Link.open(where, f"{name} publish", patience) as publishing,
            Link.open(where, f"{name} consume", patience) as consuming,
        ):
            yield cls(name, publishing, consuming)

    async def ready(self) -> bool:
        """Tell whether publishing works and every consumer is attached."""
        return self._publishing.is_up and all(each.is_attached for each in self._intakes)

    async def publish(self, message: Contract, correlation_id: str | None = None) -> None:
        """Publish a command or event; return when the broker has confirmed that it is kept.

        Raises Unavailable after at most PUBLISH_SECONDS. The message may be kept even then, so
        try again with the same id.
        """
        await self.send(delivery.publishing(message, correlation_id))

    async def send(self, item: Publishing) -> None:
        """Publish what a delivery led to; an answer need not be kept. Raises Unavailable."""
        await _send(self._keeping if item.persistent else self._answering, item)

    async def ask(self, question: Contract, within: float) -> Contract:
        """Publish a question and give its answer.

        Raises Unavailable while the broker is away, or NoAnswer after `within` seconds.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Contract] = loop.create_future()
        with self._replies_to(question, partial(_settle, answer)):
            await self._say(question)
            # A fifth of the cost of `asyncio.timeout`, for a wait with nothing else in it.
            late = loop.call_later(within, _settle, answer, None)
            try:
                return await answer
            except TimeoutError:
                raise NoAnswer(f"no answer to {question.routing_key} in {within:g} s") from None
            finally:
                late.cancel()

    @asynccontextmanager
    async def request_stream(self, message: Contract) -> AsyncIterator[asyncio.Queue[Contract]]:
        """Publish a message and give the queue of all that its handler answers, as it comes.

        Replies are not kept for an asker who was cut off, so always wait with a limit. Who says
        the same message at the same time hears the answers to both. Raises Unavailable, see
        `publish`.
        """
        replies: asyncio.Queue[Contract] = asyncio.Queue()
        with self._replies_to(message, replies.put_nowait):
            await self._say(message)
            yield replies

    @contextmanager
    def _replies_to(self, message: Contract, hear: Hear) -> Iterator[None]:
        listening = self._conversations.setdefault(message.id, [])
        listening.append(hear)
        try:
            yield
        finally:
            listening.remove(hear)
            if not listening:
                del self._conversations[message.id]

    async def _say(self, message: Contract) -> None:
        item = delivery.publishing(message, reply_to=DIRECT_REPLY)
        await _send(self._ordering if item.persistent else self._asking, item)

    async def _await_replies(self, channel: Channel) -> None:
        """Consume the replies on the very channel that asks, as direct reply-to wants it."""
        await channel.consume(DIRECT_REPLY, self._on_reply, no_ack=True, wants=intake.fits)

    def _on_reply(self, message: Incoming) -> None:
        properties = message.properties
        listening = self._conversations.get(properties.correlation_id or "")
        if not listening:
            return
        try:
            answer = contracts.decode(properties.type or "", message.body)
        except Undecodable as error:
            logger.warning("an answer that cannot be read", reason=str(error))
            return
        for hear in listening:
            hear(answer)

    @asynccontextmanager
    async def consuming(
        self, *subscriptions: Subscription, drain: float = DRAIN_SECONDS
    ) -> AsyncIterator[None]:
        """Handle the messages of some queues until the block is left.

        Then take no more, finish what is in flight within `drain` seconds, and leave the rest to
        the broker. Cancelled meanwhile, it leaves the rest to the broker at once. Raises
        Unavailable when a queue is missing.
        """
        consumers = [Consumer(each, self.send) for each in subscriptions]
        intakes = tuple(
            Intake(self._consuming, each.queue, each.prefetch, consumer.take)
            for each, consumer in zip(subscriptions, consumers, strict=True)
        )
        self._intakes += intakes
        try:
            for each in intakes:
                await each.open()
            yield
        finally:
            self._intakes = tuple(each for each in self._intakes if each not in intakes)
            try:
                await _drained(intakes, consumers, drain)
            finally:
                await asyncio.gather(*(each.close() for each in intakes))

    @asynccontextmanager
    async def browsing(self, queue: str) -> AsyncIterator[DeadLetterQueue]:
        """Look at dead letters without taking them: what is not acknowledged goes back at the end.

        Raises Unavailable, also while they are read.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                channel = await self._consuming.channel()
        except _FAILURES as error:
            raise Unavailable(f"cannot read {queue}: {described(error)}") from error
        try:
            waiting = await _waiting(channel, queue)
            yield DeadLetterQueue(waiting, _letters(channel, queue, waiting, self._consuming.user))
        finally:
            await intake.flush(channel, queue)


async def declare(url: str, exchanges: Iterable[Exchange], queues: Sequence[Queue]) -> None:
    """Make exchanges, queues and bindings; harmless when they are there already.

    Raises Unavailable, also when one is there with other arguments: those can never be changed.
    """
    where = URL(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await Connection.open(where, "declare", HEARTBEAT_SECONDS)
        try:
            channel = await connection.channel()
            for exchange in exchanges:
                await declaration.exchange(
                    channel, exchange.name, exchange.kind, exchange.alternate
                )
            for queue in queues:
                await declaration.queue(channel, queue.name, queue.arguments)
                for binding in queue.bindings:
                    await declaration.bind(channel, queue.name, binding.exchange, binding.key)
        finally:
            await connection.close()
    except _FAILURES as error:
        raise Unavailable(f"{masked(where)}: {described(error)}") from error


async def _drained(
    intakes: Sequence[Intake], consumers: Sequence[Consumer], seconds: float
) -> None:
    for each in consumers:
        # Before the broker has heard that no more is wanted: a turn may come at any time.
        each.release()
    try:
        await asyncio.gather(*(each.stop() for each in intakes))
        await asyncio.gather(*(each.drain(seconds) for each in consumers))
    except asyncio.CancelledError:
        await asyncio.gather(*(each.cut() for each in consumers))
        raise


def _settle(answer: asyncio.Future[Contract], found: Contract | None) -> None:
    """Take an answer, or None for there being none in time; the first of them counts."""
    if answer.done():
        return
    if found is None:
        answer.set_exception(TimeoutError())
    else:
        answer.set_result(found)


async def _send(lane: Lane, item: Publishing) -> None:
    try:
        await lane.publish(item)
    except _FAILURES as error:
        _published(item.exchange, "failed").inc()
        raise Unavailable(described(error)) from error
    _published(item.exchange, "confirmed").inc()


@lru_cache
def _published(exchange: str, end: str) -> Counter:
    """Give the counter of one exchange; to look it up costs more than to count."""
    return metrics.PUBLISHED.labels(exchange or "reply", end)


async def _waiting(channel: Channel, queue: str) -> int:
    try:
        return await declaration.count(channel, queue)
    except _FAILURES as error:
        raise Unavailable(f"cannot read {queue}: {described(error)}") from error


async def _letters(
    channel: Channel, queue: str, limit: int, reader: str
) -> AsyncIterator[tuple[DeadLetter, Receipt]]:
    for _ in range(limit):
        try:
            message = await channel.get(queue)
        except _FAILURES as error:
            raise Unavailable(f"cannot read {queue}: {described(error)}") from error
        if message is None:
            return
        receipt = Receipt(channel, message.tag)
        came = intake.read(queue, message, reader)
        yield dead_letter.read(came, message.properties.headers), receipt
