"""Frames: cut as they were sent, packed as the library packs them, never more than was agreed."""

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import body as bodies
from pamqp import commands, frame, header, heartbeat

from shared.amqp import wire
from shared.amqp.errors import Closed

Frame = tuple[int, int, bytes]

CHANNELS = st.integers(0, 0xFFFF)
TAGS = st.integers(0, 2**63 - 1)  # pamqp reads them as signed numbers
NAMES = st.text("abcxyz.-_", max_size=100)
KEYS = st.text(max_size=60)  # up to four bytes a character
FRAMES = st.tuples(st.integers(0, 255), CHANNELS, st.binary(max_size=300))
NOISE = st.binary(max_size=600)

GOOD = wire.HEARTBEAT_FRAME


def packed(each: Frame) -> bytes:
    """Give a frame as it is sent."""
    kind, channel, payload = each
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + wire.END_BYTE


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Give `data` cut at some places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[one:other] for one, other in pairwise(places)]


def payload(data: bytes) -> bytes:
    """Give what a single frame carries."""
    ((_, _, inside),) = wire.Cutter().feed(data)
    return inside


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_come_out_as_they_were_sent(frames: list[Frame], cuts: list[int]) -> None:
    """Whole and in order, wherever the network has cut them."""
    cutter = wire.Cutter()
    data = b"".join(map(packed, frames))

    assert [each for piece in pieces(data, cuts) for each in cutter.feed(piece)] == frames


@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_frames_come_out_byte_by_byte(frames: list[Frame]) -> None:
    """No piece is too small, and none is waited for longer than needed."""
    cutter = wire.Cutter()
    came: list[Frame] = []
    for each in frames:
        data = packed(each)
        assert not [one for byte in data[:-1] for one in cutter.feed(bytes([byte]))]
        came += cutter.feed(data[-1:])

    assert came == frames


@given(NOISE, st.lists(st.integers(0, 10_000), max_size=4))
def test_noise_is_refused_or_waited_for(noise: bytes, cuts: list[int]) -> None:
    """Whatever comes, nothing but Closed is raised, and no more is kept than one frame has."""
    cutter = wire.Cutter()
    try:
        for piece in pieces(noise, cuts):
            list(cutter.feed(piece))
    except Closed:
        return

    assert len(cutter._rest) <= len(noise)


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:-1] + b"\xcd",
        packed((1, 1, b"x" * (wire.LARGEST_FRAME - wire.OVERHEAD_BYTES + 1)))[:20],
        b"\x01\x00\x01\xff\xff\xff\xff\x00",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"AMQP\x00\x01\x00\x00",
        b"220 mail.example ESMTP\r\n",
    ],
    ids=["no end mark", "too large", "2^32 bytes", "HTTP", "another AMQP", "SMTP"],
)
def test_what_is_no_frame_is_refused_at_once(data: bytes) -> None:
    """Not waited for: the announced length might never come, or fill the memory."""
    cutter = wire.Cutter()

    with pytest.raises(Closed):
        list(cutter.feed(GOOD + data))


def test_the_largest_frame_is_taken() -> None:
    """The limit is what was agreed with the broker, its overhead included."""
    body = b"x" * (wire.LARGEST_FRAME - wire.OVERHEAD_BYTES)

    assert payload(packed((wire.BODY, 7, body))) == body


def test_a_heartbeat_is_the_library_s() -> None:
    """Eight bytes, channel 0."""
    assert heartbeat.Heartbeat().marshal() == wire.HEARTBEAT_FRAME


@given(CHANNELS, TAGS, st.booleans())
def test_acknowledgements_agree_with_the_library(channel: int, tag: int, multiple: bool) -> None:  # noqa: FBT001 -- drawn
    """What is packed by hand is byte for byte what the library packs, and reads back."""
    ours = wire.ack(channel, tag, multiple=multiple)

    assert ours == frame.marshal(commands.Basic.Ack(tag, multiple), channel)
    assert wire.read_confirm(payload(ours)) == (tag, multiple)
    back = frame.marshal(commands.Basic.Nack(tag, multiple, requeue=True), channel)
    assert wire.requeue(channel, tag, multiple=multiple) == back
    away = frame.marshal(commands.Basic.Nack(tag, multiple=False, requeue=False), channel)
    assert wire.reject(channel, tag) == away


@given(TAGS, st.booleans(), st.booleans())
def test_refusals_are_read_as_the_library_packs_them(
    tag: int,
    multiple: bool,  # noqa: FBT001 -- drawn
    requeue: bool,  # noqa: FBT001 -- drawn
) -> None:
    """`requeue`, which brokers may set, is not taken for `multiple`."""
    data = payload(frame.marshal(commands.Basic.Nack(tag, multiple, requeue), 1))

    assert wire.method_of(data) == wire.NACK
    assert wire.read_confirm(data) == (tag, multiple)


@given(NAMES, TAGS, st.booleans(), NAMES, KEYS)
def test_deliveries_are_read_as_the_library_packs_them(
    consumer: str,
    tag: int,
    redelivered: bool,  # noqa: FBT001 -- drawn
    exchange: str,
    key: str,
) -> None:
    """Every part is where it is, whatever the lengths of those before it."""
    method = commands.Basic.Deliver(consumer, tag, redelivered, exchange, key)
    data = payload(frame.marshal(method, 1))

    assert wire.method_of(data) == wire.DELIVER
    assert wire.read_deliver(data) == (consumer, tag, key)


@given(CHANNELS, NAMES, KEYS, st.booleans())
def test_publishings_agree_with_the_library(
    channel: int,
    exchange: str,
    key: str,
    mandatory: bool,  # noqa: FBT001 -- drawn
) -> None:
    """Remembered or not, it is what the library packs for exactly these."""
    method = commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)

    for _ in range(2):
        ours = wire.publish(channel, exchange, key, mandatory=mandatory)
        assert ours == frame.marshal(method, channel)


def test_a_remembered_publishing_is_that_of_its_arguments() -> None:
    """A mandatory message is never sent as one that may get lost, nor over another channel."""
    arguments = [(channel, mandatory) for channel in (1, 2) for mandatory in (True, False)] * 2
    made = [wire.publish(channel, "e", "k", mandatory=must) for channel, must in arguments]

    assert len(set(made)) == 4
    assert made[:4] == made[4:]


@pytest.mark.parametrize("key", ["k" * 256, "é" * 128, "\udc80"], ids=["long", "wide", "no text"])
def test_a_key_that_no_frame_holds_is_a_value_error(key: str) -> None:
    """It is told to its publisher; the connection knows nothing of it."""
    with pytest.raises(ValueError, match=r"255|surrogates"):
        wire.publish(1, "", key, mandatory=True)


def test_an_argument_that_no_frame_holds_is_a_value_error() -> None:
    """A queue's name of 256 bytes, say."""
    with pytest.raises(ValueError, match=r"255|length"):
        wire.method(commands.Basic.Get(queue="q" * 256), 1)


@given(st.integers(0, 3000), st.integers(30, 1000), CHANNELS)
@example(size=0, largest=100, channel=1)
@example(size=92, largest=100, channel=1)
@example(size=93, largest=100, channel=1)
@example(size=184, largest=100, channel=1)
def test_bodies_are_cut_to_the_agreed_size(size: int, largest: int, channel: int) -> None:
    """A header, then the body in frames of at most `largest` bytes, none of them empty."""
    body = bytes(each % 251 for each in range(size))
    data = wire.content(channel, b"header", body, largest)
    first, *others = wire.Cutter().feed(data)

    assert first == (wire.HEADER, channel, b"header")
    assert all(each[:2] == (wire.BODY, channel) for each in others)
    assert all(0 < len(inside) <= largest - wire.OVERHEAD_BYTES for _, _, inside in others)
    assert b"".join(inside for _, _, inside in others) == body


@given(st.binary(min_size=1, max_size=200), CHANNELS)
def test_content_agrees_with_the_library(body: bytes, channel: int) -> None:
    """Header and body are byte for byte what the library packs."""
    head = header.ContentHeader(body_size=len(body))
    theirs = frame.marshal(head, channel) + frame.marshal(bodies.ContentBody(body), channel)

    assert wire.content(channel, head.marshal(), body, wire.LARGEST_FRAME) == theirs


def test_a_header_that_no_frame_holds_is_a_value_error() -> None:
    """A header is never cut, and a broker hangs up on a frame that is too large."""
    wire.content(1, b"h" * 92, b"", 100)

    with pytest.raises(ValueError, match="92 bytes"):
        wire.content(1, b"h" * 93, b"", 100)


@pytest.mark.parametrize(
    "read",
    [wire.method_of, wire.read_method, wire.read_deliver, wire.read_confirm],
    ids=lambda read: read.__name__,
)
@pytest.mark.filterwarnings("ignore:This command is deprecated")  # of one that no broker sends
@given(noise=NOISE, method=st.sampled_from(sorted(commands.INDEX_MAPPING)), known=st.booleans())
def test_a_method_that_cannot_be_read_is_told_as_such(
    read: Callable[[bytes], Any],
    noise: bytes,
    method: int,
    known: bool,  # noqa: FBT001 -- drawn
) -> None:
    """Whatever follows the number of a method, nothing but Closed is raised."""
    with suppress(Closed):  # and nothing else
        assert read(method.to_bytes(4, "big") + noise if known else noise) is not None


@pytest.mark.parametrize(
    "method",
    [
        commands.Channel.Close(404, "NOT_FOUND - no queue", 60, 20),
        commands.Basic.Return(312, "NO_ROUTE", "mail.commands", "email.send.bulk"),
        commands.Queue.DeclareOk("q", 7, 1),
        commands.Basic.Cancel("1.1", nowait=True),
        commands.Connection.Blocked("low on memory"),
    ],
    ids=lambda method: method.name,
)
def test_rare_methods_are_read_by_the_library(method: Any) -> None:  # noqa: ANN401 -- pamqp has no type for all
    """What is packed comes back with all its arguments."""
    read = wire.read_method(payload(wire.method(method, 5)))

    assert type(read) is type(method)
    assert dict(read) == dict(method)
