"""Ways for messages to become dead letters in tests: their handlers, and the broker's limit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import aio_pika

from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Category, Contract, SendEmail
from shared.errors import Reject, Retry
from shared.topology import DELIVERY_LIMIT, dead_queue, sending_queue
from tests.tap import depth
from tests.waiting import PATIENCE_SECONDS

QUEUE = sending_queue(Category.BULK)
LETTERS = dead_queue(QUEUE)

Handle = Callable[[SendEmail], Awaitable[Sequence[Contract]]]


def mail(name: str) -> SendEmail:
    """Return a message with an id."""
    return SendEmail(
        id=name, category=Category.BULK, to=("ada@example.com",), subject="s", text="secret"
    )


async def settled(url: str, queue: str, count: int) -> None:
    """Wait until a queue holds `count` messages."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await depth(url, queue) != count:
            pass


async def refuse(email: SendEmail) -> Sequence[Contract]:
    """Refuse for good."""
    raise Reject(f"never {email.subject}")


async def fail(_: SendEmail) -> Sequence[Contract]:
    """Refuse for now."""
    raise Retry("not now", after=0)


async def handled(url: str, handle: Handle, deaths: int, *messages: Contract) -> None:
    """Consume the sender's bulk queue until there are so many dead letters."""
    async with (
        Broker.connect(url, "sender") as broker,
        broker.consuming(Subscription(QUEUE, {SendEmail: handle}, prefetch=50)),
    ):
        await asyncio.gather(*map(broker.publish, messages))
        await settled(url, LETTERS, deaths)


async def rejected(url: str, *names: str) -> None:
    """Publish messages that a handler rejects."""
    await handled(url, refuse, len(names), *map(mail, names))


async def poisoned(url: str, queue: str) -> None:
    """Requeue the message of a queue until the broker gives it up."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        source = await channel.get_queue(queue, ensure=False)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(DELIVERY_LIMIT + 1):
                while (message := await source.get(fail=False)) is None:
                    pass
                await message.reject(requeue=True)


async def received(url: str) -> list[str]:
    """Consume the queue, and return the ids in order."""
    ids = []

    async def take(email: SendEmail) -> Sequence[Contract]:
        ids.append(email.id)
        return []

    waiting = await depth(url, QUEUE)
    async with (
        Broker.connect(url, "sender") as broker,
        broker.consuming(Subscription(QUEUE, {SendEmail: take}, prefetch=1)),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while len(ids) < waiting:
            await depth(url, QUEUE)
    return ids
