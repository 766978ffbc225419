"""The common parts of the tests of publishing and reading."""

import asyncio
from typing import Any

from shared.delivery import Delivery, Publishing
from shared.rabbitmq import ChannelTag, Connection, QueueReader, fetching
from shared.topology import Queue
from tests.waiting import PATIENCE_SECONDS

QUORUM = Queue("q", None, (), {"x-queue-type": "quorum"})

Came = asyncio.Queue[tuple[Delivery, ChannelTag]]


def item(name: str = "m", queue: str = "q", body: bytes = b"{}", **more: Any) -> Publishing:  # noqa: ANN401 -- of any type
    """Return a message for a queue."""
    return Publishing("", queue, "email.send.bulk", body, name, f"c-{name}", **more)


async def waiting(connection: Connection, queue: str = "q") -> int:
    """Count the messages that wait in the queue."""
    async with fetching(connection, queue) as (count, _):
        return count


async def taken(came: Came, count: int) -> list[tuple[Delivery, ChannelTag]]:
    """Return the next `count` deliveries."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [await came.get() for _ in range(count)]


def reader(connection: Connection, came: Came, queue: str = "q", prefetch: int = 10) -> QueueReader:
    """Return a reader that puts what it reads into `came`."""
    return QueueReader(connection, queue, prefetch, lambda *each: came.put_nowait(each))
