"""The stream from the broker: its methods find their functions, and aiormq gets the rest."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header, heartbeat
from pamqp.base import Frame
from structlog.testing import capture_logs

from shared.rabbitmq.channel import ACK, DELIVER, BrokerStream
from shared.rabbitmq.frames import confirmed, delivered, properties

CHANNEL = 7
HEARTBEAT = frame.marshal(heartbeat.Heartbeat(), 0)
Called = list[tuple[bytes, bytes, bytes]]


def delivery(number: int, text: bytes, channel: int = CHANNEL, size: int = 4) -> bytes:
    """Return the frames of a delivery, `size` bytes of its body in each."""
    parts: list[Frame | header.ContentHeader | body.ContentBody] = [
        commands.Basic.Deliver("consumer", number, exchange="e", routing_key=f"k{number}"),
        header.ContentHeader(0, len(text), commands.Basic.Properties(message_id=f"m{number}")),
        *(body.ContentBody(text[at : at + size]) for at in range(0, len(text), size)),
    ]
    return b"".join(frame.marshal(each, channel) for each in parts)


def method(each: Frame, channel: int = CHANNEL) -> bytes:
    """Return the frame of a method."""
    return frame.marshal(each, channel)


def listening(called: Called) -> BrokerStream:
    """Return a stream that notes the deliveries and confirms of one channel."""
    stream = BrokerStream()
    for kind in (DELIVER, ACK):
        stream.on(CHANNEL, kind, lambda *each: called.append(each))
    return stream


async def rest(stream: BrokerStream) -> bytes:
    """Return all that aiormq reads until the end of the stream."""
    stream.feed_eof()
    return await stream.read()


@given(st.lists(st.integers(1, 30), max_size=60), st.lists(st.binary(max_size=9), max_size=4))
def test_messages_come_whole_however_the_bytes_are_cut(
    cuts: list[int], bodies: list[bytes]
) -> None:
    """Every delivery is read once, in its order, and aiormq reads all other frames as they came."""
    others = [method(commands.Basic.Qos()), delivery(1, b"other", channel=8), HEARTBEAT]
    ours = [delivery(number, text) for number, text in enumerate(bodies)]
    data = b"".join(x for pair in zip(ours, others * 2, strict=False) for x in pair)
    data += method(commands.Basic.Ack(3, multiple=True))
    expected = b"".join((others * 2)[: len(ours)])

    async def read() -> tuple[Called, bytes]:
        called, at = Called(), 0
        stream = listening(called)
        stream._passed_at = stream._clock() + 1000  # so that no heartbeat is added
        for cut in [*cuts, len(data)]:
            stream.feed_data(data[at : at + cut])
            at += cut
        return called, await rest(stream)

    called, left = asyncio.run(read())

    assert left == expected
    assert [text for _, _, text in called] == [*bodies, b""]
    assert confirmed(called[-1][0]) == (3, True)
    for number, (arguments, head, _) in enumerate(called[:-1]):
        assert delivered(arguments) == (number, f"k{number}")
        assert properties(head) == {"message_id": f"m{number}"}


async def test_a_delivery_that_its_channel_left_unfinished_is_dropped() -> None:
    """Its broker delivers it again; the next message of that channel is whole."""
    called = Called()
    stream = listening(called)

    stream.feed_data(delivery(1, b"cut off")[:-20])
    stream.feed_data(b"")
    stream._rest = b""
    stream.feed_data(method(commands.Channel.Close(404, "gone", 60, 40)) + delivery(2, b"whole"))

    assert [text for _, _, text in called] == [b"whole"]


async def test_a_defect_ends_no_connection() -> None:
    """It is logged, and the next message is read."""
    stream, called = BrokerStream(), Called()

    def call(*each: bytes) -> None:
        called.append((each[0], each[1], each[2]))
        raise RuntimeError("a defect")

    stream.on(CHANNEL, DELIVER, call)
    with capture_logs() as logs:
        stream.feed_data(delivery(1, b"a") + delivery(2, b"b"))

    assert len(called) == len(logs) == 2


async def test_aiormq_sees_a_busy_broker_alive() -> None:
    """A broker that delivers sends no heartbeats, so aiormq gets one each second for it."""
    stream = listening(Called())
    now = stream._passed_at = 1000.0
    stream._clock = lambda: now
    for now in (1000.5, 1001.0, 1001.9, 1002.0):  # noqa: B007 -- the clock reads it
        stream.feed_data(delivery(1, b"a"))

    assert await rest(stream) == 2 * HEARTBEAT


@pytest.mark.parametrize("data", [b"AMQP\0\0\x09\x01", b"HTTP/1.1 400 Bad Request\r\n", b"\1\0"])
async def test_a_peer_that_is_no_broker_is_left_to_aiormq(data: bytes) -> None:
    """It ends the connection, for bytes that begin no frame and for a frame that is cut off."""
    stream = BrokerStream()
    stream.feed_data(data)

    assert await rest(stream) == data
