"""A queue on an exchange, by which a test watches a broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from shared import topology
from shared.broker import Broker
from shared.contracts import Contract
from tests.waiting import PATIENCE_SECONDS

MAX_PART = 50  # messages that are published at the same time


class Tap:
    """Copies of everything that one exchange routes, in order of arrival."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def next(self, within: float = PATIENCE_SECONDS) -> AbstractIncomingMessage:
        """Wait up to `within` seconds for the next message. Raises TimeoutError."""
        async with asyncio.timeout(within):
            return await self._arrived.get()

    def empty(self) -> bool:
        """Whether nothing is waiting to be looked at."""
        return self._arrived.empty()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(message)


@asynccontextmanager
async def tapped(url: str, exchange: str, key: str = "#") -> AsyncIterator[Tap]:
    """Watch `exchange` for keys that match `key`, on a connection of its own.

    The tap of all commands has also the mails of clients, which have an exchange of their own.
    """
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, key)
        for each in topology.SHARD_KEYS if (exchange, key) == (topology.COMMANDS, "#") else ():
            await queue.bind(topology.SHARDED_MAILS, each)
        tap = Tap()
        await queue.consume(tap._take, no_ack=True)
        yield tap


async def publish_raw(
    url: str, queue: str, body: bytes, kind: str = "", message_id: str | None = None
) -> None:
    """Put bytes into a queue as a foreign program would."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.default_exchange.publish(
            aio_pika.Message(
                body,
                type=kind,
                message_id=message_id,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            queue,
        )


async def depth(url: str, queue: str) -> int:
    """Return the number of messages of a queue that wait to be delivered."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def publish_in_parts(broker: Broker, messages: Sequence[Contract]) -> None:
    """Publish messages in parts that a busy machine confirms within PUBLISH_SECONDS."""
    for first in range(0, len(messages), MAX_PART):
        await asyncio.gather(*map(broker.publish, messages[first : first + MAX_PART]))
