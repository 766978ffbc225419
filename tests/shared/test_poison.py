"""Poison on a real broker: it lies in the dead letters with its reason, its neighbours are served.

Issue 10, A2, A3 and A7.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aio_pika.abc import AbstractIncomingMessage
from structlog.testing import capture_logs

from shared import delivery, topology
from shared.backlog import MAX_HELD_BYTES
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Contract, SendEmail
from shared.contracts.mail import MAX_MAIL_BYTES
from tests.shared.messages import KIND, QUEUE, fact, mail
from tests.tap import Tap, depth, publish_raw, tapped
from tests.waiting import until

MILLION = 1_000_000
ADDRESSES = [f"a{number}@example.org" for number in range(500)]


class Poison(NamedTuple):
    """A body, and what the reason of its dead letter says."""

    body: bytes
    reason: str


def poisoned(reason: str, **changes: object) -> Poison:
    """Return a mail that has something wrong with it."""
    fields = {"id": "poison", "to": ["ann@example.org"], "subject": "s", "text": "t"}
    return Poison(json.dumps(fields | changes).encode(), reason)


POISONS = {
    "attempt of 64 bits": poisoned("attempt: must be at most", attempt=1 << 63),
    "attempt of 4,000 digits": poisoned("attempt: ", attempt=10**4000),
    "retries": poisoned("retries: must be at most", retries=MILLION),
    "500 unknown recipients pending": poisoned("pending: ", pending=ADDRESSES),
    "an unknown recipient pending": poisoned(
        "must have no pending recipients", pending=["eve@x.example"]
    ),
    "a million attachments": poisoned("at most 50000 values", attachments=[{}] * MILLION),
    "a million recipients": poisoned("at most 50000 values", to=["a"] * MILLION),
    "a million fields": poisoned("at most 50000 values", headers=dict.fromkeys(range(MILLION), 1)),
    "20,000 wrong items": poisoned("attachments.0.filename: ", attachments=[{}] * 20_000),
    "20,000 wrong fields": poisoned(
        "headers: must have at most 50 entries", headers=dict.fromkeys(range(20_000), 1)
    ),
    "a deep body": Poison(b'{"id":' + b"[" * MILLION, "at most 50000 values"),
    "a body as deep as it may be": Poison(b'{"id":' + b"[" * 49_000, "body: is not JSON"),
    "a long number": Poison(b'{"id":"p","attempt":' + b"9" * MILLION + b"}", "body: is not JSON"),
}


def subscription(
    handler: Callable[[SendEmail], Awaitable[Sequence[Contract]]], group_size: int = 1
) -> Subscription:
    """Return a subscription of the queue."""
    return Subscription(QUEUE, {SendEmail: handler}, prefetch=8, group_size=group_size)


async def handled(command: SendEmail) -> Sequence[Contract]:
    """Report a command as handled."""
    return [fact(command.id)]


def handling(broker: Broker, group_size: int = 1) -> AbstractAsyncContextManager[None]:
    """Consume the queue."""
    return broker.consuming(subscription(handled, group_size))


class Watch(NamedTuple):
    """A broker, and the events and dead letters that its consumer publishes."""

    broker: Broker
    events: Tap
    dead: Tap

    async def served(self, count: int) -> set[str | None]:
        """Return the ids of the next events."""
        return {(await self.events.next()).message_id for _ in range(count)}

    async def letter(self) -> AbstractIncomingMessage:
        """Return the next dead letter."""
        return await self.dead.next()


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[Watch]:
    """Open a broker, and queues of the events and dead letters that its consumer publishes."""
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.EVENTS) as events,
        tapped(url, topology.DEAD) as dead,
    ):
        yield Watch(broker, events, dead)


async def is_empty(url: str) -> None:
    """Wait until nothing is in the queue."""

    async def empty() -> bool:
        return await depth(url, QUEUE) == 0

    await until(empty)


@pytest.mark.parametrize("group_size", [1, 8], ids=["singly", "in groups"])
@pytest.mark.parametrize("name", POISONS)
async def test_poison_is_dead_and_its_neighbours_are_served(
    url: str, name: str, group_size: int
) -> None:
    """A message that breaks its contract is dead at once, with a reason; others are served."""
    poison = POISONS[name]
    async with watching(url) as watch:
        await watch.broker.publish(mail("before"))
        await publish_raw(url, QUEUE, poison.body, KIND)
        await watch.broker.publish(mail("after"))
        async with handling(watch.broker, group_size):
            assert await watch.served(2) == {"before", "after"}
            letter = await watch.letter()

    assert letter.headers[delivery.CAUSE] == "undecodable"
    assert poison.reason in str(letter.headers[delivery.REASON])
    assert letter.body == poison.body
    await is_empty(url)


@pytest.mark.parametrize(
    ("kind", "size"),
    [("feedback.reported", 16 * MILLION), (KIND, MAX_MAIL_BYTES + 1), ("stranger", 10**5)],
)
async def test_a_body_that_is_too_large_is_dead_unread(url: str, kind: str, size: int) -> None:
    """The broker moves it to the dead letters; no consumer holds 16 MB of it (issue 10, A2)."""
    body = b'{"sightings":[' + b"{}," * (size // 3)
    async with watching(url) as watch:
        await watch.broker.publish(mail("before"))
        await publish_raw(url, QUEUE, body[:size].ljust(size), kind)
        await watch.broker.publish(mail("after"))
        with capture_logs() as logs:
            async with handling(watch.broker):
                assert await watch.served(2) == {"before", "after"}
                letter = await watch.letter()

    assert len(letter.body) == size
    deaths: Any = letter.headers["x-death"]
    assert deaths[0]["reason"] == "rejected"
    lines = [each for each in logs if each["event"] == "to the dead letters"]
    assert [(each["cause"], each["bytes"], each["queue"]) for each in lines] == [
        ("too_large", size, QUEUE)
    ]
    await is_empty(url)


async def test_a_body_of_the_largest_size_is_read(url: str) -> None:
    """A mail of 15.75 MiB is one."""
    wire = json.dumps({"id": "big", "to": "ann@example.org", "subject": "s", "text": "t"})
    async with watching(url) as watch, handling(watch.broker):
        await publish_raw(url, QUEUE, wire.encode().ljust(MAX_MAIL_BYTES), KIND)

        assert await watch.served(1) == {"big"}


async def test_large_mails_wait_on_disk_and_small_ones_pass(url: str) -> None:
    """A prefetch counts messages: those in hand have a bound in bytes, too.

    The largest mails are handled a few at a time, and a small one does not wait for them.
    """
    large = json.dumps({"id": "large", "to": "a@x.example", "subject": "s", "text": "t"}).encode()
    large = large.ljust(10 << 20)
    at_most = MAX_HELD_BYTES // len(large)
    running, most, release = 0, 0, asyncio.Event()

    async def handle(command: SendEmail) -> Sequence[Contract]:
        nonlocal running, most
        if command.id == "large":
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1
        return [fact(command.id)]

    many = Subscription(QUEUE, {SendEmail: handle}, prefetch=20)
    async with watching(url) as watch, watch.broker.consuming(many):
        for _ in range(12):
            await publish_raw(url, QUEUE, large, KIND)
        await watch.broker.publish(mail("small"))
        assert await watch.served(1) == {"small"}
        release.set()
        assert await watch.served(12) == {"large"}

    assert most == at_most
    await is_empty(url)
