"""A reader of a queue: messages come while it is open, and none is lost when it closes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aio_pika
import pytest
import structlog

from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.rabbitmq import (
    ChannelTag,
    Connection,
    Publisher,
    QueueReader,
    declare,
    fetching,
    frames,
)
from shared.rabbitmq import queue_reader as readers
from shared.rabbitmq.queue_reader import MAX_TRACE_BYTES, Received, read
from shared.retry import MAX_ATTEMPTS
from shared.topology import Queue
from tests.proxy import Proxy
from tests.shared.rabbitmq.messages import QUORUM, Came, item, reader, taken, waiting
from tests.waiting import PATIENCE_SECONDS, until

OUR_USER = "sender"
MEGABYTES = 5_000_000  # bytes: some forty frames


async def test_large_bodies_go_both_ways(connection: Connection) -> None:
    """Cut into frames and put together again, with small ones between them, in their order."""
    large = bytes(range(256)) * (MEGABYTES // 256)
    bodies = [b"a", large, b"", large]
    publisher, came = Publisher(connection, "tests"), Came()
    reading = reader(connection, came)
    await reading.open()

    for number, body in enumerate(bodies):
        await publisher.publish(item(f"m{number}", body=body))

    assert [message.body for message, _ in await taken(came, 4)] == bodies
    await reading.stop()
    await reading.close()


async def test_an_acknowledged_message_is_gone(connection: Connection) -> None:
    """However many acknowledgements were under way when it closed; the rest goes back."""
    publisher, came = Publisher(connection, "tests"), Came()
    for number in range(150):
        await publisher.publish(item(f"m{number}"))
    reading = reader(connection, came, prefetch=100)
    await reading.open()
    assert reading.is_attached

    hundred = await taken(came, 100)
    await reading.stop()
    for _, tag in hundred[:90]:
        tag.ack()
    await reading.close()

    async def sixty_wait() -> bool:
        return await waiting(connection) == 60

    await until(sixty_wait)
    assert [message.message_id for message, _ in hundred] == [f"m{each}" for each in range(100)]
    assert came.empty()


@pytest.mark.parametrize(
    ("acknowledged", "sent"),
    [
        ([1, 2, 3, 4, 5, 6], [(6, True)]),
        ([3, 1, 2], [(3, True)]),
        ([6, 2, 1], [(2, True), (6, False)]),
        ([2, 3], [(2, False), (3, False)]),
        ([1], [(1, False)]),
    ],
)
async def test_acknowledgements_of_one_turn_are_sent_together(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    acknowledged: Sequence[int],
    sent: Sequence[tuple[int, bool]],
) -> None:
    """One frame settles all up to its number, so an unsettled delivery below it keeps it back."""
    publisher, came = Publisher(connection, "tests"), Came()
    for number in range(1, 7):
        await publisher.publish(item(f"m{number}"))
    reading = reader(connection, came)
    await reading.open()
    tags = {tag.number: tag for _, tag in await taken(came, 6)}
    written: list[tuple[int, bool]] = []

    def ack(channel: int, number: int, *, multiple: bool = False) -> bytes:
        written.append((number, multiple))
        return pack(channel, number, multiple=multiple)

    pack = frames.ack
    monkeypatch.setattr(frames, "ack", ack)

    for number in acknowledged:
        tags[number].ack()
    await reading.stop()
    await reading.close()

    assert written == sent
    left = {f"m{number}" for number in tags if number not in acknowledged}

    async def are_back() -> bool:
        async with fetching(connection, "q") as (_, fetched):
            return {each.delivery.message_id async for each in fetched} == left

    await until(are_back)  # after the close-ok of the channel, in any order


async def test_nothing_comes_after_the_stop(connection: Connection, steady: Connection) -> None:
    """Messages that came before the stop can still be settled."""
    publisher, came = Publisher(steady, "tests"), Came()
    reading = reader(connection, came)
    await reading.open()
    await publisher.publish(item("first"))
    ((_, tag),) = await taken(came, 1)

    await reading.stop()
    assert not reading.is_attached
    await publisher.publish(item("second"))
    tag.ack()
    await reading.close()

    assert came.empty()

    async def one_waits() -> bool:
        return await waiting(steady) == 1

    await until(one_waits)


@pytest.mark.parametrize("defect", ["read", "on_delivery"])
async def test_a_message_that_cannot_be_read_is_a_dead_letter(
    connection: Connection, vhost: str, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    """A defect is logged and its message rejected at once, and no other message is held."""
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await declare(vhost, [], [Queue("bad", None, (), arguments), Queue("dead", None, ())])
    publisher, came = Publisher(connection, "tests"), Came()

    def fail(message: Delivery | Received) -> None:
        if message.body == b"bad":
            raise RuntimeError("a defect")

    def failing_read(queue: str, message: Received, reader: str) -> Delivery:
        fail(message)
        return read(queue, message, reader)

    def take(message: Delivery, tag: ChannelTag) -> None:
        fail(message)
        came.put_nowait((message, tag))

    if defect == "read":
        monkeypatch.setattr(readers, "read", failing_read)
    reading = QueueReader(connection, "bad", 1, take)
    await reading.open()
    with structlog.testing.capture_logs() as logs:
        for text in (b"bad", b"good"):
            await publisher.publish(item(queue="bad", body=text))
        ((found, tag),) = await taken(came, 1)
    tag.ack()
    await reading.stop()

    assert found.body == b"good"
    assert [(each["event"], each["cause"]) for each in logs] == [
        ("to the dead letters", "unreadable")
    ]
    assert isinstance(logs[0]["exc_info"], RuntimeError)

    async def is_dead() -> bool:
        return await waiting(connection, "dead") == 1

    await until(is_dead)
    await reading.close()


async def test_an_acknowledgement_of_nothing_ends_its_channel_alone(
    connection: Connection, steady: Connection
) -> None:
    """The broker closes the channel; the reader comes back on another."""
    came = Came()
    reading = reader(connection, came)
    await reading.open()
    await Publisher(steady, "tests").publish(item("m1"))
    ((_, tag),) = await taken(came, 1)
    tag._replace(number=77).ack()

    ((message, again),) = await taken(came, 1)
    assert message.message_id == "m1"
    assert tag.void
    assert connection.is_up
    again.ack()
    await reading.stop()
    await reading.close()


@pytest.mark.parametrize("at", ["away", "missing"])
async def test_a_reader_can_be_stopped_while_it_comes_back(
    connection: Connection,
    proxy: Proxy,
    vhost: str,
    at: str,
) -> None:
    """At any moment, and at once: a broker that is away is not waited for."""
    reading = reader(connection, Came())
    await reading.open()

    async def is_detached() -> bool:
        return not reading.is_attached

    if at == "away":
        proxy.hold()
        proxy.cut()
    else:
        async with await aio_pika.connect(vhost) as theirs, theirs.channel() as other:
            await other.queue_delete("q")
    await until(is_detached)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await reading.stop()
        await reading.close()
    proxy.let_go()


async def test_an_unacknowledged_message_comes_again_after_a_cut(
    connection: Connection, steady: Connection, proxy: Proxy
) -> None:
    """By a new channel; a delivery tag of the old one is void."""
    publisher, came = Publisher(steady, "tests"), Came()
    reading = reader(connection, came)
    await reading.open()
    for name in ("a", "b"):
        await publisher.publish(item(name))
    (_, done), (_, old) = await taken(came, 2)
    done.ack()
    assert await waiting(connection) == 0  # on the same connection, so that the broker has heard

    proxy.cut()
    again = await taken(came, 1)

    assert [message.message_id for message, tag in again if not tag.void] == ["b"]
    assert old.void
    for settle in (old.ack, old.requeue):
        with pytest.raises(Unavailable):
            settle()
    await reading.stop()
    await reading.close()


async def test_a_queue_that_is_made_again_is_consumed_again(
    connection: Connection, steady: Connection, vhost: str
) -> None:
    """A queue is read again however long it was missing; at the start a missing one is an error."""
    came = Came()
    with pytest.raises(Unavailable, match="cannot consume missing"):
        await reader(connection, came, "missing").open()
    reading = reader(connection, came)
    await reading.open()

    async def is_detached() -> bool:
        return not reading.is_attached

    async def is_logged() -> bool:
        return any(each["event"] == "waiting for the queue" for each in logs)

    with structlog.testing.capture_logs() as logs:
        async with await aio_pika.connect(vhost) as theirs, theirs.channel() as other:
            await other.queue_delete("q")
        await until(is_detached)
        await until(is_logged)
    line = next(each for each in logs if each["event"] == "waiting for the queue")
    assert (line["address"], line["log_level"]) == ("q", "warning")
    assert "NOT_FOUND" in line["reason"]
    assert "ops topology declare" in line["advice"]
    await declare(vhost, [], [QUORUM])
    await Publisher(steady, "tests").publish(item("after"))

    ((message, tag),) = await taken(came, 1)
    assert message.message_id == "after"
    tag.ack()
    await reading.stop()
    await reading.close()


def message(**properties: Any) -> Received:  # noqa: ANN401 -- of any type
    """Return a message as it came."""
    return Received("email.send.bulk", properties, b"{}")


def test_a_message_with_unreadable_properties_is_delivered() -> None:
    """Without a type its key counts; without ids it has none; it is at its first attempt."""
    assert read("q", message(), OUR_USER) == Delivery(
        queue="q",
        type="email.send.bulk",
        body=b"{}",
        message_id="",
        correlation_id="",
        reply_to=None,
        attempt=1,
        trace={},
    )


def test_all_properties_of_ours_are_read() -> None:
    """The thread of a message goes on."""
    found = read(
        "q",
        message(
            message_type="code.issue",
            message_id="m1",
            correlation_id="c1",
            reply_to="r1",
            headers={"x-attempt": 7, "traceparent": "00-1", "tracestate": "a=b", "x-else": "?"},
            user_id=OUR_USER,
        ),
        OUR_USER,
    )

    assert (found.type, found.message_id, found.correlation_id) == ("code.issue", "m1", "c1")
    assert (found.reply_to, found.attempt) == ("r1", 7)
    assert found.trace == {"traceparent": "00-1", "tracestate": "a=b"}


def test_the_id_stands_for_a_missing_thread() -> None:
    """As where a message begins one."""
    assert read("q", message(message_id="m1"), OUR_USER).correlation_id == "m1"


@pytest.mark.parametrize("attempt", ["3", 0, -1, 2.5, None, [1], {"a": 1}], ids=repr)
def test_a_count_that_is_no_number_is_the_first(attempt: object) -> None:
    """A stranger's header may be anything."""
    headers = {"x-attempt": attempt}
    assert read("q", message(headers=headers, user_id=OUR_USER), OUR_USER).attempt == 1


@pytest.mark.parametrize("user", [None, "shop"])
def test_the_attempt_of_another_publisher_is_ignored(user: str | None) -> None:
    """Only a copy that a service has made is at another attempt than the first."""
    assert read("q", message(headers={"x-attempt": 7}, user_id=user), OUR_USER).attempt == 1


def test_a_count_ends_where_attempts_do() -> None:
    """One more than AMQP's largest integer could be sent in no header."""
    headers = {"x-attempt": 2**63 - 1}
    found = read("q", message(headers=headers, user_id=OUR_USER), OUR_USER)
    assert found.attempt == MAX_ATTEMPTS


@pytest.mark.parametrize(
    "value",
    [7, None, ["00-1"], b"00-1", "é", "0" * (MAX_TRACE_BYTES + 1)],
    ids=lambda each: repr(each)[:9],
)
def test_a_trace_that_is_no_text_or_too_long_is_not_copied(value: object) -> None:
    """A copy must fit into a frame."""
    assert read("q", message(headers={"traceparent": value}), OUR_USER).trace == {}
