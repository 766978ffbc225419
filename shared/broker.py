"""The one access to RabbitMQ: confirmed publishing, questions, consuming, browsing dead letters.

There are two connections, since an alarm of the broker stops all reading from a connection that
publishes, acknowledgements included.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Self

import prometheus_client
import structlog
from yarl import URL

from shared import contracts, dead_letter, delivery, rabbitmq, topology
from shared.batch_consumer import BatchConsumer
from shared.config.settings import DRAIN_SECONDS
from shared.config.url import brokers
from shared.consumer import Consumer, GroupConsumer, Publish, Subscription
from shared.contracts import Contract
from shared.dead_letter import DeadLetter
from shared.delivery import Publishing
from shared.errors import NoAnswer, Unavailable, Undecodable
from shared.identity import DIRECT_REPLY
from shared.inflight import DeliveryTag
from shared.rabbitmq import Connection, Fetched, Publisher, QueueReader, QueueState
from shared.retry import Delay
from shared.runtime import metrics, tracing
from shared.runtime.tracing import PublishSpans, Trace

PATIENCE_SECONDS = 30.0  # for a broker that is still starting

OnReply = Callable[[Contract], None]

_NO_TRACES: Mapping[str, Trace] = {}

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """The dead letters that were in a queue at the start, `waiting` of them, each once.

    Not those that come later: a replayed message may become a dead letter again.
    """

    waiting: int
    letters: AsyncIterator[tuple[DeadLetter, DeliveryTag]]


class Broker:
    """A service's connections to RabbitMQ. Made by `Broker.connect`, which also closes them."""

    def __init__(self, name: str, publishing: Connection, consuming: Connection) -> None:
        self._publishing = publishing
        self._consuming = consuming
        self._publisher = Publisher(publishing, name)
        self._answer_publisher = Publisher(publishing, name, confirms=False)
        self._request_publisher = Publisher(publishing, name, self._on_reply)
        self._question_publisher = Publisher(publishing, name, self._on_reply, confirms=False)
        # By the message's id; one message may be published twice at once, see `request_stream`.
        self._listeners: dict[str, list[OnReply]] = {}
        self._readers: tuple[QueueReader, ...] = ()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        name: str,
        patience: float = PATIENCE_SECONDS,
        shuffle: Callable[[list[URL]], None] = random.shuffle,
    ) -> AsyncIterator[Self]:
        """Open both connections as service `name`; wait `patience` seconds for a broker.

        The replicas of a service spread over the nodes of a cluster, since each tries them in an
        order of its own. Raises Unavailable when none answers, or at once when one refuses us.
        """
        where = brokers(url)
        shuffle(where)
        async with (
            Connection.open(where, f"{name} publish", patience) as publishing,
            Connection.open(where, f"{name} consume", patience) as consuming,
        ):
            yield cls(name, publishing, consuming)

    async def ready(self) -> bool:
        """Return whether publishing works and every consumer is attached."""
        return self._publishing.is_up and all(each.is_attached for each in self._readers)

    async def publish(self, message: Contract, correlation_id: str | None = None) -> None:
        """Publish a command or event; return when the broker has confirmed that it is kept.

        Raises NoQueue, or Unavailable after at most PUBLISH_SECONDS. The message may be kept even
        then, so try again with the same id.
        """
        await self.send(delivery.publishing(message, correlation_id))

    async def publish_all(
        self, messages: Sequence[Contract], traces: Mapping[str, Trace] = _NO_TRACES
    ) -> Mapping[str, Unavailable]:
        """Publish messages, which have ids of their own; return the failures by the message's id.

        What `publish` promises holds for each of them. `traces` has the traces that some of them
        continue, by the message's id.
        """
        items = (delivery.publishing(each, trace=traces.get(each.id)) for each in messages)
        spans = PublishSpans()
        ends: Mapping[str, Unavailable | None] = {}
        try:
            ends = await self._publisher.publish_all(map(spans.begin, items))
        finally:
            spans.end(ends)
        failures = {each: end for each, end in ends.items() if end is not None}
        for each in messages:
            if each.id not in ends:
                failures[each.id] = Unavailable("not published: the broker failed before")
        counts = Counter((topology.exchange_of(each), each.id in failures) for each in messages)
        for (exchange, is_failed), count in counts.items():
            _published(exchange, "failed" if is_failed else "confirmed").inc(count)
        return failures

    async def count_waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue. Raises Unavailable."""
        return await rabbitmq.count_waiting(self._publishing, queue)

    async def queue_states(self, queues: Iterable[str]) -> Mapping[str, QueueState | None]:
        """Return how much waits in each queue, None for one that is missing. Raises Unavailable."""
        return await rabbitmq.read_states(self._consuming, queues)

    async def send(self, item: Publishing) -> None:
        """Publish, and wait for the confirm of a persistent message. Raises Unavailable."""
        await _send(self._publisher if item.persistent else self._answer_publisher, item)

    async def ask(self, question: Contract, within: float) -> Contract:
        """Publish a question and return its answer.

        Raises Unavailable while the broker is away, or NoAnswer after `within` seconds.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Contract] = loop.create_future()
        with self._replies_to(question, partial(_settle, answer)):
            await self._request(question)
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
        """Publish a message and yield a queue that gets each reply of its handler as it comes.

        A reply is lost when the connection is lost, so always wait with a limit. Two callers that
        publish the same message at the same time get the replies to both. Raises Unavailable, see
        `publish`.
        """
        replies: asyncio.Queue[Contract] = asyncio.Queue()
        with self._replies_to(message, replies.put_nowait):
            await self._request(message)
            yield replies

    @contextmanager
    def _replies_to(self, message: Contract, on_reply: OnReply) -> Iterator[None]:
        listening = self._listeners.setdefault(message.id, [])
        listening.append(on_reply)
        try:
            yield
        finally:
            listening.remove(on_reply)
            if not listening:
                del self._listeners[message.id]

    async def _request(self, message: Contract) -> None:
        item = delivery.publishing(message, reply_to=DIRECT_REPLY)
        await _send(self._request_publisher if item.persistent else self._question_publisher, item)

    def _on_reply(self, correlation_id: str, kind: str, body: bytes) -> None:
        listening = self._listeners.get(correlation_id)
        if not listening:
            return
        try:
            answer = contracts.decode(kind, body)
        except Undecodable as error:
            logger.warning("a reply cannot be decoded", reason=str(error))
            return
        for on_reply in listening:
            on_reply(answer)

    @asynccontextmanager
    async def consuming(
        self, *subscriptions: Subscription, drain: float = DRAIN_SECONDS
    ) -> AsyncIterator[None]:
        """Handle the messages of some queues until the block is left.

        Then take no more, finish what is in flight within `drain` seconds, and leave the rest to
        the broker. Cancelled meanwhile, it leaves the rest to the broker at once. Raises
        Unavailable when a queue is missing.
        """
        consumers = [_consumer(each, self.send) for each in subscriptions]
        readers = tuple(
            QueueReader(self._consuming, queue, each.prefetch, consumer.take)
            for each, consumer in zip(subscriptions, consumers, strict=True)
            for queue in each.queues
        )
        self._readers += readers
        try:
            opened = await asyncio.gather(
                *(each.open() for each in readers), return_exceptions=True
            )
            for error in filter(None, opened):
                raise error
            yield
        finally:
            self._readers = tuple(each for each in self._readers if each not in readers)
            try:
                await _drained(readers, consumers, drain)
            finally:
                await asyncio.gather(*(each.close() for each in readers))

    @asynccontextmanager
    async def browsing(self, queue: str) -> AsyncIterator[DeadLetterQueue]:
        """Read dead letters; those that are not acknowledged go back to the queue at the end.

        Raises Unavailable, also while they are read.
        """
        async with rabbitmq.fetching(self._consuming, queue) as (waiting, fetched):
            yield DeadLetterQueue(waiting, _letters(fetched))

    async def send_back(
        self, letter: DeadLetter, tag: DeliveryTag, delay: Delay | None = None
    ) -> bool:
        """Send a dead letter back to its queue; return False if that is unknown, and keep it.

        It is acknowledged after the confirm of its copy. If this ends in between, there are two
        with one id, which its consumer handles once. Raises Unavailable.
        """
        if not dead_letter.can_return(letter):
            return False
        await self.send(dead_letter.replay(letter, delay))
        tag.ack()
        return True


def _consumer(subscription: Subscription, publish: Publish) -> Consumer:
    if subscription.handle_batch is not None:
        return BatchConsumer(subscription, publish, subscription.handle_batch)
    return (Consumer if subscription.group_size == 1 else GroupConsumer)(subscription, publish)


async def _drained(
    readers: Sequence[QueueReader], consumers: Sequence[Consumer], seconds: float
) -> None:
    for each in consumers:
        # Before the broker is told to deliver no more: a waiting message could start meanwhile.
        each.release()
    try:
        await asyncio.gather(*(each.stop() for each in readers))
        await asyncio.gather(*(each.drain(seconds) for each in consumers))
    except asyncio.CancelledError:
        await asyncio.gather(*(each.cut() for each in consumers))
        raise


def _settle(answer: asyncio.Future[Contract], found: Contract | None) -> None:
    """Resolve a future by an answer, or by None when its time is over; the first one counts."""
    if answer.done():
        return
    if found is None:
        answer.set_exception(TimeoutError())
    else:
        answer.set_result(found)


async def _send(publisher: Publisher, item: Publishing) -> None:
    try:
        with tracing.publishing(item) as span:
            await publisher.publish(tracing.traced(item, span))
    except Unavailable:
        _published(item.exchange, "failed").inc()
        raise
    _published(item.exchange, "confirmed").inc()


@lru_cache
def _published(exchange: str, end: str) -> prometheus_client.Counter:
    """Return the counter of one exchange; a look-up of labels costs more than the increment."""
    return metrics.PUBLISHED.labels(exchange or "reply", end)


async def _letters(
    fetched: AsyncIterator[Fetched],
) -> AsyncIterator[tuple[DeadLetter, DeliveryTag]]:
    async for message in fetched:
        yield dead_letter.read(message.delivery, message.headers), message.tag
