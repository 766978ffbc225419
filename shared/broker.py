"""The one seam to RabbitMQ: confirmed publishing, questions, consuming, looking at dead letters.

There are two connections, since an alarm of the broker stops all reading from a connection that
publishes, acknowledgements included.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Self

import structlog
from prometheus_client import Counter
from yarl import URL

from shared import contracts, dead_letter, delivery, rabbitmq
from shared.asker import DIRECT_REPLY
from shared.config.settings import DRAIN_SECONDS
from shared.consumer import Consumer, Subscription
from shared.contracts import Contract
from shared.dead_letter import DeadLetter
from shared.delivery import Publishing
from shared.errors import NoAnswer, Unavailable, Undecodable
from shared.group_consumer import GroupConsumer
from shared.inflight import DeliveryTag
from shared.rabbitmq import Connection, Fetched, Publisher, QueueReader
from shared.runtime import metrics

PATIENCE_SECONDS = 30.0  # for a broker that is still starting

Hear = Callable[[Contract], None]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """The letters of a queue, each of those `waiting` at the start once.

    No more than those: what is replayed may well come back dead.
    """

    waiting: int
    letters: AsyncIterator[tuple[DeadLetter, DeliveryTag]]


class Broker:
    """A service's door to RabbitMQ. Made by `Broker.connect`, which also closes it."""

    def __init__(self, name: str, publishing: Connection, consuming: Connection) -> None:
        self._publishing = publishing
        self._consuming = consuming
        self._keeping = Publisher(publishing, name)
        self._answering = Publisher(publishing, name, confirms=False)
        self._ordering = Publisher(publishing, name, self._on_reply)
        self._asking = Publisher(publishing, name, self._on_reply, confirms=False)
        # By the message's id; the same message may be said twice at once, see `request_stream`.
        self._conversations: dict[str, list[Hear]] = {}
        self._readers: tuple[QueueReader, ...] = ()

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
            Connection.open(where, f"{name} publish", patience) as publishing,
            Connection.open(where, f"{name} consume", patience) as consuming,
        ):
            yield cls(name, publishing, consuming)

    async def ready(self) -> bool:
        """Tell whether publishing works and every consumer is attached."""
        return self._publishing.is_up and all(each.is_attached for each in self._readers)

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

    def _on_reply(self, correlation_id: str, kind: str, body: bytes) -> None:
        listening = self._conversations.get(correlation_id)
        if not listening:
            return
        try:
            answer = contracts.decode(kind, body)
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
        consumers = [
            (Consumer if each.group_size == 1 else GroupConsumer)(each, self.send)
            for each in subscriptions
        ]
        readers = tuple(
            QueueReader(self._consuming, each.queue, each.prefetch, consumer.take)
            for each, consumer in zip(subscriptions, consumers, strict=True)
        )
        self._readers += readers
        try:
            for each in readers:
                await each.open()
            yield
        finally:
            self._readers = tuple(each for each in self._readers if each not in readers)
            try:
                await _drained(readers, consumers, drain)
            finally:
                await asyncio.gather(*(each.close() for each in readers))

    @asynccontextmanager
    async def browsing(self, queue: str) -> AsyncIterator[DeadLetterQueue]:
        """Look at dead letters without taking them: what is not acknowledged goes back at the end.

        Raises Unavailable, also while they are read.
        """
        async with rabbitmq.fetching(self._consuming, queue) as (waiting, fetched):
            yield DeadLetterQueue(waiting, _letters(fetched))


async def _drained(
    readers: Sequence[QueueReader], consumers: Sequence[Consumer], seconds: float
) -> None:
    for each in consumers:
        # Before the broker has heard that no more is wanted: a turn may come at any time.
        each.release()
    try:
        await asyncio.gather(*(each.stop() for each in readers))
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


async def _send(publisher: Publisher, item: Publishing) -> None:
    try:
        await publisher.publish(item)
    except Unavailable:
        _published(item.exchange, "failed").inc()
        raise
    _published(item.exchange, "confirmed").inc()


@lru_cache
def _published(exchange: str, end: str) -> Counter:
    """Give the counter of one exchange; to look it up costs more than to count."""
    return metrics.PUBLISHED.labels(exchange or "reply", end)


async def _letters(
    fetched: AsyncIterator[Fetched],
) -> AsyncIterator[tuple[DeadLetter, DeliveryTag]]:
    async for each in fetched:
        yield dead_letter.read(each.delivery, each.headers), each.tag
