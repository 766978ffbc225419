"""A lane: what is published over it is confirmed or refused within its limit, never in between."""

import asyncio
import time
from collections.abc import AsyncIterator

import aio_pika
import pytest
from pamqp import commands
from yarl import URL

from shared import lane as module
from shared.amqp import declaration
from shared.amqp.channel import Channel
from shared.amqp.errors import Closed, Returned
from shared.delivery import Publishing
from shared.lane import MAX_UNCONFIRMED, Lane
from shared.link import Link
from tests.shared.amqp.scripted import Peer, Script
from tests.waiting import until

SECONDS = 60.0  # that a test waits for anything


def item(name: str = "m", queue: str = "q", body: bytes = b"{}") -> Publishing:
    """Give a message for a queue."""
    return Publishing("", queue, "email.send.bulk", body, name, f"c-{name}")


@pytest.fixture
async def link(vhost: str) -> AsyncIterator[Link]:
    """Connect, and make the queue."""
    async with Link.open(URL(vhost), "tests", 0) as opened:
        channel = await opened.channel()
        await declaration.queue(channel, "q", {})
        await channel.close()
        yield opened


async def waiting(link: Link) -> int:
    """Tell how many messages wait in the queue."""
    channel = await link.channel()
    try:
        return await declaration.count(channel, "q")
    finally:
        await channel.close()


async def test_what_is_published_tells_who_and_when(vhost: str, link: Link) -> None:
    """A reader in any language finds what it is, who said it, when, and to whom to answer."""
    asking = Publishing(
        exchange="",
        routing_key="q",
        type="code.verify",
        body=b'{"id":"m1"}',
        message_id="m1",
        correlation_id="c1",
        reply_to="answers",
        headers={"traceparent": "00-1", "x-attempt": 2},
        persistent=False,
    )
    begun = int(time.time())
    await Lane(link, "gateway").publish(asking)

    async with await aio_pika.connect(vhost) as theirs, theirs.channel() as other:
        message = await (await other.get_queue("q")).get(no_ack=True)
    assert message.body == b'{"id":"m1"}'
    assert (message.type, message.app_id) == ("code.verify", "gateway")
    assert message.user_id == link.user
    assert (message.message_id, message.correlation_id) == ("m1", "c1")
    assert message.content_type == "application/json"
    assert message.reply_to == "answers"
    assert message.headers == {"traceparent": "00-1", "x-attempt": 2}
    assert message.delivery_mode is aio_pika.DeliveryMode.NOT_PERSISTENT
    assert message.timestamp is not None
    assert begun <= message.timestamp.timestamp() <= time.time()


async def test_ten_thousand_at_once_are_all_confirmed(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no more under way than there are slots; the others wait."""
    monkeypatch.setattr(module, "PUBLISH_SECONDS", SECONDS)
    lane = Lane(link, "tests")
    channel = await lane.open()
    most = 0

    async def publish(number: int) -> None:
        nonlocal most
        await lane.publish(item(f"m{number}"))
        most = max(most, len(channel._confirms._pending))

    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(publish(number) for number in range(10_000)))

    assert await waiting(link) == 10_000
    assert 0 < most <= MAX_UNCONFIRMED
    assert not channel._confirms._pending


async def test_one_of_hundreds_comes_back(link: Link) -> None:
    """What no queue takes is told to its publisher alone."""
    lane = Lane(link, "tests")
    names = [f"m{number}" for number in range(300)]

    ends = await asyncio.gather(
        *(lane.publish(item(name, "nowhere" if name == "m77" else "q")) for name in names),
        return_exceptions=True,
    )

    assert isinstance(ends[77], Returned)
    assert ends.count(None) == 299
    assert await waiting(link) == 299


async def test_many_that_come_together_open_one_channel(link: Link) -> None:
    """And it is prepared once, before anybody publishes."""
    prepared: list[Channel] = []

    async def prepare(channel: Channel) -> None:
        await asyncio.sleep(0)
        prepared.append(channel)

    lane = Lane(link, "tests", prepare)
    channels = await asyncio.gather(*(lane.open() for _ in range(20)))

    assert len({id(each) for each in channels}) == 1
    assert prepared == [channels[0]]


async def test_two_lanes_open_at_once(link: Link) -> None:
    """Each has a channel of its own."""
    lanes = [Lane(link, "tests") for _ in range(2)]
    await asyncio.gather(*(lane.publish(item()) for lane in lanes))

    assert (await lanes[0].open()).number != (await lanes[1].open()).number
    assert await waiting(link) == 2


async def test_a_channel_that_cannot_be_prepared_is_not_used(link: Link) -> None:
    """The next who comes gets another."""
    queues = ["missing", "q"]

    async def prepare(channel: Channel) -> None:
        await channel.consume(queues.pop(0), lambda _: None)

    lane = Lane(link, "tests", prepare)
    with pytest.raises(Closed, match="missing"):
        await lane.publish(item())
    await lane.publish(item("again", "q"))

    assert not queues


async def test_a_lost_channel_is_opened_again(link: Link) -> None:
    """Those whose confirms went with it are told; the next goes out over a new one."""
    lane = Lane(link, "tests")
    first = await lane.open()

    ends = await asyncio.gather(
        lane.publish(Publishing("missing", "k", "t", b"", "m1", "c")),
        lane.publish(item("m2")),
        return_exceptions=True,
    )
    assert isinstance(ends[0], Closed)
    await lane.publish(item("m3"))

    assert (await lane.open()) is not first


async def test_who_goes_away_leaves_a_slot(link: Link) -> None:
    """A publisher that is cancelled, before or after its message was sent."""
    lane = Lane(link, "tests")
    await lane.open()
    for _ in range(3):
        gone = [asyncio.create_task(lane.publish(item())) for _ in range(MAX_UNCONFIRMED + 5)]
        await asyncio.sleep(0)
        for each in gone:
            each.cancel()
        await asyncio.wait(gone)

    async with asyncio.timeout(SECONDS):
        await lane.publish(item())


async def test_a_message_that_no_frame_holds_is_a_value_error(link: Link) -> None:
    """It leaves the channel as it was."""
    lane = Lane(link, "tests")
    channel = await lane.open()

    with pytest.raises(ValueError, match="255"):
        await lane.publish(item("m" * 256))
    await lane.publish(item())

    assert await lane.open() is channel


async def welcome(script: Script) -> Peer:
    """Let the next connection in, and give it a channel with confirms."""
    peer = await script.peer()
    await peer.start()
    await peer.tune(10, 0, 0)
    await peer.open_channel(1)
    await peer.hear(commands.Confirm.Select)
    peer.say(commands.Confirm.SelectOk(), channel=1)
    return peer


async def test_a_broker_short_of_memory_holds_publishers(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait, no longer than their limit, and send nothing; then they go on."""
    monkeypatch.setattr(module, "PUBLISH_SECONDS", 0.05)
    opening = asyncio.create_task(welcome(script))
    async with Link.open(script.url, "tests", 0) as link:
        lane = Lane(link, "tests")
        channel = await lane.open()
        peer = await opening
        peer.say(commands.Connection.Blocked("low on memory"))
        await until_blocked(link)

        with pytest.raises(TimeoutError):
            await lane.publish(item("too early"))
        monkeypatch.setattr(module, "PUBLISH_SECONDS", SECONDS)
        publishing = asyncio.create_task(lane.publish(item("in time")))
        peer.say(commands.Connection.Unblocked())
        await peer.hear(commands.Basic.Publish)
        peer.say(commands.Basic.Ack(1), channel=1)
        await publishing

        assert channel.closed is None
        peer.hang_up()


async def until_blocked(link: Link) -> None:
    """Wait until the broker's word has come."""

    async def is_blocked() -> bool:
        return not link.is_writable

    await until(is_blocked)


async def test_a_broker_that_goes_while_it_is_short_of_memory(script: Script) -> None:
    """Publishers that wait for it are told at once."""
    opening = asyncio.create_task(welcome(script))
    async with Link.open(script.url, "tests", 0) as link:
        lane = Lane(link, "tests")
        await lane.open()
        peer = await opening
        peer.say(commands.Connection.Blocked("low on memory"))
        await until_blocked(link)
        publishing = asyncio.create_task(lane.publish(item()))
        await asyncio.sleep(0)

        peer.hang_up()

        with pytest.raises(Closed, match="lost"):
            await publishing


async def test_a_broker_that_opens_nothing_holds_nobody_for_long(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a channel is within the limit of a publisher."""
    monkeypatch.setattr(module, "PUBLISH_SECONDS", 0.05)

    async def greet() -> Peer:
        peer = await script.peer()
        await peer.start()
        await peer.tune(10, 0, 0)
        return peer

    opening = asyncio.create_task(greet())
    async with Link.open(script.url, "tests", 0) as link:
        peer = await opening
        lane = Lane(link, "tests")
        ends = await asyncio.gather(
            *(lane.publish(item()) for _ in range(3)), return_exceptions=True
        )
        peer.hang_up()

    assert [type(end) for end in ends] == [TimeoutError] * 3
