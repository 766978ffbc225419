"""A connection by itself: the first words, the last ones, and a peer that is none."""

import asyncio
import re

import pytest
from pamqp import commands, frame, heartbeat

from shared.amqp import connection as module
from shared.amqp import wire
from shared.amqp.channel import Channel
from shared.amqp.connection import PATIENCE_INTERVALS, TURN_BYTES, Connection
from shared.amqp.errors import Closed, LoginRefused, VhostRefused
from shared.amqp.properties import Properties
from tests.shared.amqp.scripted import SECONDS, TUNE, Peer, Script

pytestmark = pytest.mark.usefixtures("complaints")


async def is_lost(connection: Connection) -> Closed:
    """Wait until a connection is lost, and tell why."""
    async with asyncio.timeout(SECONDS):
        await connection.lost.wait()
    return connection.reason


async def with_channel(connection: Connection, peer: Peer, number: int = 1) -> Channel:
    """Open a channel, which gets that number."""
    opening = asyncio.create_task(connection.channel())
    await peer.open_channel(number)
    return await opening


async def test_both_agree_on_limits(script: Script) -> None:
    """The narrower ones, and our own heartbeat."""
    opening = asyncio.create_task(Connection.open(script.url, "tests", 7))
    peer = await script.peer()
    started = await peer.start()
    agreed = await peer.tune(100, 5000, 60)
    connection = await opening

    assert (started.client_properties or {})["connection_name"] == "tests"
    assert (agreed.channel_max, agreed.frame_max, agreed.heartbeat) == (100, 5000, 7)
    assert connection.largest_frame == 5000


@pytest.mark.parametrize("said", [0, 1, 2])
async def test_a_peer_that_goes_while_greeting(script: Script, said: int) -> None:
    """At whatever word: it is told, and nobody waits."""
    opening = asyncio.create_task(Connection.open(script.url, "tests", 10))
    peer = await script.peer()
    if said > 0:
        await peer.start()
    if said > 1:
        peer.say(commands.Connection.Tune(*TUNE))
        await peer.hear(commands.Connection.TuneOk)
    peer.hang_up()

    with pytest.raises(Closed, match="lost"):
        await opening


async def test_a_wrong_login_is_told_as_such(script: Script) -> None:
    """No other refusal is taken for it."""
    for code, error in ((403, LoginRefused), (530, Closed)):
        opening = asyncio.create_task(Connection.open(script.url, "tests", 10))
        peer = await script.peer()
        await peer.start()
        peer.say(commands.Connection.Close(code, "REFUSED - whatever", 0, 0))

        with pytest.raises(error, match="REFUSED"):
            await opening
        await peer.hear(commands.Connection.CloseOk)


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (530, "NOT_ALLOWED - vhost nowhere not found", VhostRefused),
        (530, "NOT_ALLOWED - access to vhost '/' refused for user 'shop'", VhostRefused),
        (530, "NOT_ALLOWED - vhost '/': connection limit (1) is reached", Closed),
        (541, "INTERNAL_ERROR - vhost '/' is down", Closed),
    ],
)
async def test_a_wrong_virtual_host_is_told_as_such(
    script: Script, code: int, text: str, error: type[Exception]
) -> None:
    """What may be otherwise in a moment is no refusal: one that is full, or still starting."""
    opening = asyncio.create_task(Connection.open(script.url, "tests", 10))
    peer = await script.peer()
    await peer.start()
    peer.say(commands.Connection.Tune(*TUNE))
    await peer.hear(commands.Connection.TuneOk)
    await peer.hear(commands.Connection.Open)
    peer.say(commands.Connection.Close(code, text, 0, 0))

    with pytest.raises(error, match=re.escape(text)) as caught:
        await opening
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\0\0\x08\0",
        wire.method(commands.Connection.Secure("more?"), 0),
        b"\x01\0\0\0\0\0\x04\xff\xff\xff\xff\xce",
    ],
    ids=["HTTP", "an older AMQP", "another word", "no method"],
)
async def test_a_peer_that_is_no_broker_is_told_at_once(script: Script, said: bytes) -> None:
    """Without waiting for what it will never say."""
    opening = asyncio.create_task(Connection.open(script.url, "tests", 10))
    peer = await script.peer()
    await peer.start()
    peer.send(said)

    with pytest.raises(Closed):
        await opening
    assert await peer.ended()


async def test_who_gives_up_connecting_hangs_up(script: Script) -> None:
    """No connection is left behind that nobody knows of."""
    opening = asyncio.create_task(Connection.open(script.url, "tests", 10))
    peer = await script.peer()
    await peer.start()
    opening.cancel()

    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await peer.ended()


async def test_the_broker_s_farewell_is_answered(script: Script) -> None:
    """Everything that waits is told its reason; what we still had to say is said."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)
    confirm = channel.publish(b"", Properties(), "", "k", mandatory=False)

    peer.say(commands.Connection.Close(320, "CONNECTION_FORCED - bye", 0, 0))

    reason = await is_lost(connection)
    assert (str(reason), reason.code) == ("CONNECTION_FORCED - bye", 320)
    with pytest.raises(Closed, match="bye"):
        await confirm
    with pytest.raises(Closed, match="bye"):
        await connection.channel()
    await peer.hear(commands.Basic.Publish)
    assert await peer.next()
    await peer.hear(commands.Connection.CloseOk)
    assert await peer.ended()


async def test_what_comes_at_once_is_read_in_turns(script: Script) -> None:
    """A thousand small messages keep nobody waiting until the last of them; none is lost."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)
    others = 0
    reading = True

    def turn() -> None:
        nonlocal others
        others += 1
        if reading:
            asyncio.get_running_loop().call_soon(turn)

    confirms = [
        channel.publish(b"", Properties(), "", "k", mandatory=False)
        for _ in range(TURN_BYTES // 10)
    ]
    tags = range(1, len(confirms) + 1)
    data = b"".join(frame.marshal(commands.Basic.Ack(tag), 1) for tag in tags)
    turn()
    connection.data_received(data)
    await confirms[-1]
    reading = False

    assert others >= len(data) // TURN_BYTES
    assert all(each.done() for each in confirms)


async def test_the_last_words_are_heard(script: Script) -> None:
    """What came before the end of the connection counts, however much it is."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)
    confirm = channel.publish(b"", Properties(), "", "k", mandatory=False)

    connection.data_received(wire.HEARTBEAT_FRAME * TURN_BYTES)
    connection.data_received(frame.marshal(commands.Basic.Ack(1), 1))
    connection.connection_lost(None)

    await confirm
    peer.hang_up()


@pytest.mark.parametrize(
    "noise",
    [
        b"\x01\0\x01\0\0\0\x04\0\0\0\0\xcd",
        b"\x01\0\x01\xff\xff\xff\xff\0",
        b"\x01\0\x01\0\0\0\x04\xff\xff\xff\xff\xce",
        b"\x03\0\x01\0\0\0\x01x\xce",
        b"\x01\0\x01\0\0\0\x05\0\x3c\0\x3c\xff\xce",
    ],
    ids=["no end", "too long", "no method", "a body", "half a delivery"],
)
async def test_noise_ends_the_connection(script: Script, noise: bytes) -> None:
    """Whatever it is; who waits for a confirm is told."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)
    confirm = channel.publish(b"", Properties(), "", "k", mandatory=False)

    peer.send(noise)

    await is_lost(connection)
    with pytest.raises(Closed):
        await confirm
    assert await peer.ended()


async def test_a_message_cut_in_the_middle_of_a_frame_is_none(script: Script) -> None:
    """What came of it is forgotten with the connection."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)
    took: list[object] = []
    consuming = asyncio.create_task(channel.consume("q", took.append))
    tag = (await peer.hear(commands.Basic.Consume)).consumer_tag
    peer.say(commands.Basic.ConsumeOk(tag), channel=1)
    consumption = await consuming

    deliver = wire.method(commands.Basic.Deliver(tag, 1, exchange="e", routing_key="k"), 1)
    peer.send(deliver, wire.content(1, b"\0\x3c\0\0" + bytes(7) + b"\x04\0\0", b"body", 4096)[:-2])
    peer.say()
    peer.hang_up()

    await is_lost(connection)
    assert consumption.ended.is_set()
    assert not took


async def test_a_frame_of_no_channel_of_ours_is_nothing(script: Script) -> None:
    """As one that was under way when we closed it."""
    connection, peer = await script.opened()
    peer.say(commands.Basic.QosOk(), channel=9)
    channel = await with_channel(connection, peer)

    assert channel.number == 1


async def test_both_sides_say_that_they_live(script: Script) -> None:
    """Twice an interval, also when there is nothing to say; so an idle connection stays."""
    connection, peer = await script.opened(heartbeat=1)

    for _ in range(2 * PATIENCE_INTERVALS + 2):
        await peer.hear(heartbeat.Heartbeat)
        peer.send(wire.HEARTBEAT_FRAME)

    assert not connection.lost.is_set()


async def test_a_peer_that_says_nothing_is_given_up(script: Script) -> None:
    """After three intervals; its bytes that cannot be sent keep nothing open."""
    connection, peer = await script.opened(heartbeat=1)
    channel = await with_channel(connection, peer)
    peer.hold()
    confirm = channel.publish(b"x" * 20_000_000, Properties(), "", "k", mandatory=False)

    assert str(await is_lost(connection)) == "no sign of the broker for 3 s"
    with pytest.raises(Closed, match="no sign"):
        await confirm
    assert connection.writable.is_set()
    peer.let_go()
    assert await peer.ended()


async def test_a_broker_that_is_short_of_memory_holds_publishers(script: Script) -> None:
    """Until it says otherwise, or is gone."""
    connection, peer = await script.opened()
    for number in (1, 2):
        peer.say(commands.Connection.Blocked("low on memory"))
        await with_channel(connection, peer, number)
        assert not connection.writable.is_set()
        peer.say(commands.Connection.Unblocked())
        async with asyncio.timeout(SECONDS):
            await connection.writable.wait()
    peer.say(commands.Connection.Blocked("low on memory"))
    await with_channel(connection, peer, 3)

    peer.hang_up()
    await is_lost(connection)
    assert connection.writable.is_set()


async def test_a_broker_that_does_not_keep_up_holds_publishers(script: Script) -> None:
    """What cannot be sent yet is not added to; when it has gone, publishers go on."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)
    peer.hold()
    confirm = channel.publish(b"x" * 20_000_000, Properties(), "", "k", mandatory=False)
    await asyncio.sleep(0)
    assert not connection.writable.is_set()

    peer.let_go()
    reading = asyncio.create_task(peer.ended())
    async with asyncio.timeout(SECONDS):
        await connection.writable.wait()
    peer.say(commands.Basic.Ack(1), channel=1)
    await confirm
    peer.hang_up()
    await reading


async def test_all_channels_can_be_in_use(script: Script) -> None:
    """One more is refused, not waited for; a number that is free is used again."""
    connection, peer = await script.opened((1, 0, 0))
    channel = await with_channel(connection, peer)
    with pytest.raises(Closed, match="all 1 channels"):
        await connection.channel()

    closing = asyncio.create_task(channel.close())
    await peer.hear(commands.Channel.Close)
    peer.say(commands.Channel.CloseOk(), channel=1)
    await closing

    assert (await with_channel(connection, peer)).number == 1


async def test_a_broker_without_limits_gives_channels(script: Script) -> None:
    """0 is no limit, not none at all."""
    connection, peer = await script.opened((0, 0, 0))

    assert (await with_channel(connection, peer)).number == 1


async def test_the_farewell_waits_for_its_answer(script: Script) -> None:
    """So that all that was said before has been heard."""
    connection, peer = await script.opened()
    closing = asyncio.create_task(connection.close())
    await peer.hear(commands.Connection.Close)
    assert not closing.done()

    peer.say(commands.Connection.CloseOk())
    await closing
    assert await peer.ended()


@pytest.mark.parametrize("how", ["silent", "gone", "quicker"])
async def test_the_farewell_takes_no_longer_than_its_limit(
    script: Script, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """From a broker that has got stuck, hangs up, or closes itself at the same time."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05 if how == "silent" else SECONDS)
    connection, peer = await script.opened()
    closing = asyncio.create_task(connection.close())
    await peer.hear(commands.Connection.Close)
    if how == "gone":
        peer.hang_up()
    if how == "quicker":
        peer.say(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0))

    async with asyncio.timeout(SECONDS):
        await closing
    assert await peer.ended()
    await connection.close()  # once more is harmless


async def test_what_is_written_in_one_turn_goes_out_in_order(script: Script) -> None:
    """Together, but as it was written."""
    connection, peer = await script.opened()
    channel = await with_channel(connection, peer)

    for tag in range(1, 6):
        channel.ack(tag)

    acks = [(await peer.hear(commands.Basic.Ack)).delivery_tag for _ in range(5)]
    assert acks == [1, 2, 3, 4, 5]
