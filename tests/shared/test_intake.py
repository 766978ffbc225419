"""An intake: messages come for as long as it is open, and are acknowledged before it closes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
import structlog
from yarl import URL

from shared import intake as module
from shared.amqp import declaration
from shared.amqp.channel import Channel, Incoming
from shared.amqp.connection import Connection
from shared.amqp.properties import Properties
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.intake import MAX_TRACE_CHARS, Intake, Receipt, read
from shared.link import Link
from shared.retry import MAX_ATTEMPTS
from tests.proxy import Proxy
from tests.waiting import until

SECONDS = 20.0  # that a test waits for anything
OUR_USER = "sender"
QUORUM = {"x-queue-type": "quorum"}

Taken = asyncio.Queue[tuple[Delivery, Receipt]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner than a service does."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.02)


@pytest.fixture
async def channel(vhost: str) -> AsyncIterator[Channel]:
    """Make the queue; the channel is one of a connection that is never cut."""
    connection = await Connection.open(URL(vhost), "tests", 10)
    opened = await connection.channel(confirms=True)
    await declaration.queue(opened, "q", QUORUM)
    yield opened
    await connection.close()


@pytest.fixture
async def proxy(vhost: str) -> AsyncIterator[Proxy]:
    """Open a way to the broker that a test can cut."""
    async with Proxy.to(urlsplit(vhost).port or 0) as way:
        yield way


@pytest.fixture
async def link(vhost: str, proxy: Proxy, channel: Channel) -> AsyncIterator[Link]:
    """Connect by that way, when there is a queue."""
    assert channel.closed is None
    async with Link.open(URL(vhost).with_port(proxy.port), "tests", 0) as opened:
        yield opened


async def put(channel: Channel, *bodies: bytes) -> None:
    """Put messages into the queue, one after the other."""
    for body in bodies:
        await channel.publish(body, Properties(message_id=body.decode()), "", "q", mandatory=True)


async def taken(came: Taken, count: int) -> list[tuple[Delivery, Receipt]]:
    """Give the next `count` deliveries."""
    async with asyncio.timeout(SECONDS):
        return [await came.get() for _ in range(count)]


def into(came: Taken) -> module.Take:
    """Take deliveries into a queue of the test."""
    return lambda message, receipt: came.put_nowait((message, receipt))


async def holds(channel: Channel, count: int) -> bool:
    """Tell whether so many messages wait in the queue."""
    return await declaration.count(channel, "q") == count


async def test_all_that_was_acknowledged_is_gone(link: Link, channel: Channel) -> None:
    """However many acknowledgements were under way when it closed; the rest goes back."""
    came: Taken = asyncio.Queue()
    await put(channel, *(b"m%d" % number for number in range(150)))
    intake = Intake(link, "q", 100, into(came))
    await intake.open()
    assert intake.is_attached

    hundred = await taken(came, 100)
    await intake.stop()
    for _, receipt in hundred[:90]:
        await receipt.ack()
    await intake.close()

    # What is not acknowledged goes back a moment after the channel has closed.
    await until(lambda: holds(channel, 60))
    assert [message.message_id for message, _ in hundred] == [f"m{each}" for each in range(100)]
    assert came.empty()


async def test_nothing_comes_after_the_stop(link: Link, channel: Channel) -> None:
    """What has come before can still be settled."""
    came: Taken = asyncio.Queue()
    intake = Intake(link, "q", 10, into(came))
    await intake.open()
    await put(channel, b"first")
    ((_, receipt),) = await taken(came, 1)

    await intake.stop()
    assert not intake.is_attached
    await put(channel, b"second")
    await receipt.ack()
    await intake.close()

    assert came.empty()
    await until(lambda: holds(channel, 1))


async def test_a_missing_queue_is_told(link: Link) -> None:
    """At the start, where it is a mistake of the deployment."""
    intake = Intake(link, "missing", 10, into(asyncio.Queue()))

    with pytest.raises(Unavailable, match="cannot consume missing"):
        await intake.open()
    await intake.stop()
    await intake.close()


async def test_what_was_not_acknowledged_comes_again_after_a_cut(
    link: Link, proxy: Proxy, channel: Channel
) -> None:
    """By a new channel; a receipt of the old one is void."""
    came: Taken = asyncio.Queue()
    intake = Intake(link, "q", 10, into(came))
    await intake.open()
    await put(channel, b"a", b"b")
    (_, done), (_, old) = await taken(came, 2)
    await done.ack()
    await channel.get("q")  # the broker has heard of it

    proxy.cut()
    again = [message.message_id for message, receipt in await taken(came, 1) if not receipt.void]

    assert again == ["b"]
    assert old.void
    for settle in (old.ack, old.requeue):
        with pytest.raises(Unavailable):
            await settle()
    await intake.stop()
    await intake.close()


async def test_it_can_be_stopped_while_it_comes_back(
    link: Link, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a broker that is away."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", SECONDS)
    intake = Intake(link, "q", 10, into(asyncio.Queue()))
    await intake.open()

    async def is_deaf() -> bool:
        return not intake.is_attached

    proxy.hold()
    proxy.cut()
    await until(is_deaf)
    async with asyncio.timeout(SECONDS):
        await intake.stop()
        await intake.close()


async def test_a_queue_that_is_made_again_is_consumed_again(
    link: Link, vhost: str, channel: Channel
) -> None:
    """However long it was missing; until then it is told what is waited for."""
    came: Taken = asyncio.Queue()
    intake = Intake(link, "q", 10, into(came))
    await intake.open()

    async def is_deaf() -> bool:
        return not intake.is_attached

    async def is_told() -> bool:
        return bool([each for each in logs if each["event"] == "waiting for the queue"])

    with structlog.testing.capture_logs() as logs:
        async with await aio_pika.connect(vhost) as connection, connection.channel() as other:
            await other.queue_delete("q")
        await until(is_deaf)
        await until(is_told)
    line = next(each for each in logs if each["event"] == "waiting for the queue")
    assert (line["address"], line["log_level"]) == ("q", "warning")
    assert "NOT_FOUND" in line["reason"]
    assert "ops topology declare" in line["advice"]
    await declaration.queue(channel, "q", QUORUM)
    await put(channel, b"after")

    ((message, receipt),) = await taken(came, 1)
    assert message.message_id == "after"
    await receipt.ack()
    await intake.stop()
    await intake.close()
    await until(lambda: holds(channel, 0))


def incoming(**properties: Any) -> Incoming:  # noqa: ANN401 -- of any type
    """Give a message as it came."""
    return Incoming(None, 1, "email.send.bulk", Properties(**properties), b"{}", 2)  # type: ignore[arg-type]


def test_a_stranger_s_message_is_read_as_far_as_it_goes() -> None:
    """Without a type its key tells; without ids it has none; it is at its first attempt."""
    assert read("q", incoming(), OUR_USER) == Delivery(
        queue="q",
        type="email.send.bulk",
        body=b"{}",
        message_id="",
        correlation_id="",
        reply_to=None,
        attempt=1,
        trace={},
    )


def test_all_that_the_pipeline_knows_is_read() -> None:
    """The thread of a message goes on."""
    message = read(
        "q",
        incoming(
            type="code.issue",
            message_id="m1",
            correlation_id="c1",
            reply_to="r1",
            headers={"x-attempt": 7, "traceparent": "00-1", "tracestate": "a=b", "x-else": "?"},
            user_id=OUR_USER,
        ),
        OUR_USER,
    )

    assert (message.type, message.message_id, message.correlation_id) == ("code.issue", "m1", "c1")
    assert (message.reply_to, message.attempt) == ("r1", 7)
    assert message.trace == {"traceparent": "00-1", "tracestate": "a=b"}


def test_the_id_stands_for_a_missing_thread() -> None:
    """As where a message begins one."""
    assert read("q", incoming(message_id="m1"), OUR_USER).correlation_id == "m1"


@pytest.mark.parametrize("attempt", ["3", 0, -1, 2.5, None, [1], {"a": 1}], ids=repr)
def test_a_count_that_is_none_is_the_first(attempt: object) -> None:
    """A stranger's header may be anything."""
    headers = {"x-attempt": attempt}
    assert read("q", incoming(headers=headers, user_id=OUR_USER), OUR_USER).attempt == 1


@pytest.mark.parametrize("user", [None, "shop"])
def test_a_count_of_a_stranger_s_is_not_believed(user: str | None) -> None:
    """Only a copy that a service has made is at another attempt than the first."""
    assert read("q", incoming(headers={"x-attempt": 7}, user_id=user), OUR_USER).attempt == 1


def test_a_count_ends_where_attempts_do() -> None:
    """One more than AMQP's largest integer could be sent in no header."""
    headers = {"x-attempt": 2**63 - 1}
    message = read("q", incoming(headers=headers, user_id=OUR_USER), OUR_USER)
    assert message.attempt == MAX_ATTEMPTS


@pytest.mark.parametrize(
    "value",
    [7, None, ["00-1"], b"00-1", "0" * (MAX_TRACE_CHARS + 1)],
    ids=lambda each: repr(each)[:9],
)
def test_a_trace_that_is_none_is_not_handed_on(value: object) -> None:
    """Nor one so long that no frame would hold a copy."""
    assert read("q", incoming(headers={"traceparent": value}), OUR_USER).trace == {}
