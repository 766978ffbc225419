"""Frames are packed by hand as pamqp packs them, so that every other client reads them."""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from aiormq.abc import ChannelFrame
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, encode, frame, header
from pamqp.body import ContentBody
from pamqp.common import FieldTable
from pamqp.header import ContentHeader
from yarl import URL

from shared.delivery import TRACE, Delivery, Jitter, Publishing, dead, failed
from shared.identity import Identity
from shared.rabbitmq import Connection, declare, fetching
from shared.rabbitmq.frames import (
    MAX_SHORT_BYTES,
    MAX_TABLE_BYTES,
    PublishFrames,
    ack,
    nack,
    properties,
    short_text,
    table,
    timestamp,
)
from shared.rabbitmq.queue_reader import MAX_TRACE_BYTES
from shared.retry import MAX_ATTEMPTS
from shared.topology import Queue
from tests.shared.messages import MOMENT
from tests.shared.rabbitmq.messages import Came, reader, taken

MAX_PAYLOAD_BYTES = 131_064
SMALLEST_PAYLOAD_BYTES = 4096 - 8  # of the smallest frame size that a broker may ask for
MESSAGE = Publishing("e", "k", "email.send.bulk", b"{}", "m", "c")
TEXTS = st.text(min_size=1, max_size=60)
HEADERS = st.dictionaries(
    st.text(min_size=1, max_size=32),  # of 128 bytes at most, as the library cuts them
    st.text(max_size=100) | st.integers(-(2**63), 2**63 - 1),
    max_size=5,
)
MESSAGES = st.builds(
    Publishing,
    exchange=st.sampled_from(["", "mail.events"]),
    routing_key=TEXTS,
    type=TEXTS,
    body=st.binary(max_size=500),
    message_id=TEXTS,
    correlation_id=TEXTS,
    reply_to=st.none() | TEXTS,
    headers=HEADERS,
    mandatory=st.booleans(),
    persistent=st.booleans(),
)


def packed(item: Publishing, timestamp: int = 1, largest: int = MAX_PAYLOAD_BYTES) -> bytes:
    """Pack a message on channel 7."""
    return PublishFrames(7, largest, "shop", "sender").pack(item, timestamp)


@given(MESSAGES, st.integers(0, 2**32 - 1))
def test_a_message_is_packed_as_the_library_packs_it(item: Publishing, timestamp: int) -> None:
    """Byte by byte."""
    properties = commands.Basic.Properties(
        content_type="application/json",
        headers=dict(item.headers) or None,
        delivery_mode=2 if item.persistent else 1,
        correlation_id=item.correlation_id,
        reply_to=item.reply_to,
        message_id=item.message_id,
        timestamp=datetime.fromtimestamp(timestamp, tz=UTC),
        message_type=item.type,
        user_id="shop",
        app_id="sender",
    )
    theirs: list[Any] = [
        commands.Basic.Publish(0, item.exchange, item.routing_key, item.mandatory),
        header.ContentHeader(0, len(item.body), properties),
        *([body.ContentBody(item.body)] if item.body else ()),
    ]

    assert packed(item, timestamp) == b"".join(frame.marshal(each, 7) for each in theirs)


@given(st.integers(1, 65_535), st.integers(0, 2**63 - 1), st.booleans())
def test_acknowledgements_are_packed_as_the_library_packs_them(
    channel: int,
    tag: int,
    bit: bool,  # noqa: FBT001 -- drawn
) -> None:
    """Byte by byte."""
    theirs = frame.marshal(commands.Basic.Ack(tag, multiple=bit), channel)
    assert ack(channel, tag, multiple=bit) == theirs
    theirs = frame.marshal(commands.Basic.Nack(tag, requeue=bit), channel)
    assert nack(channel, tag, requeue=bit) == theirs


@pytest.mark.parametrize("size", [0, 1, 200, 201, 400, 1000])
def test_a_body_is_cut_to_the_agreed_size(size: int) -> None:
    """In frames of at most that size, none of them empty."""
    data, pieces = packed(replace(MESSAGE, body=bytes(size)), largest=200), []
    while data:
        used, _, each = frame.unmarshal(data)
        data = data[used:]
        if isinstance(each, body.ContentBody):
            pieces.append(len(each))

    assert sum(pieces) == size
    assert all(0 < each <= 200 for each in pieces)


@pytest.mark.parametrize(
    "item",
    [
        replace(MESSAGE, routing_key="k" * 256),
        replace(MESSAGE, message_id="m" * 256),
        replace(MESSAGE, type="é" * 128),
        replace(MESSAGE, correlation_id="\udce9"),
        replace(MESSAGE, headers={"a": object()}),  # type: ignore[dict-item]
        replace(MESSAGE, headers={"a": 2**64}),
        replace(MESSAGE, headers={"a": "\udce9"}),
        replace(MESSAGE, headers={"a": "x" * MAX_PAYLOAD_BYTES}),
    ],
    ids=["key", "long", "wide", "no text", "no type", "number", "header", "large"],
)
def test_what_no_frame_holds_is_a_value_error(item: Publishing) -> None:
    """It is an error before anything is sent."""
    with pytest.raises(ValueError, match=r"255|length|surrogates|cannot be sent|more than"):
        packed(item)


@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS])
@pytest.mark.parametrize("letter", ["x", "é", "\U0001f4e7", "\udce9"])
def test_every_copy_fits_into_the_smallest_frame(letter: str, attempt: int) -> None:
    """The longest reason with the longest ids, or its copy would be published for ever."""
    longest = "k" * MAX_SHORT_BYTES
    trace = dict.fromkeys(TRACE, "0" * MAX_TRACE_BYTES)
    ids = (longest, longest, longest, attempt, trace, Identity(longest))
    delivery = Delivery("sender.transactional", longest, b"{}", *ids)
    frames = PublishFrames(7, SMALLEST_PAYLOAD_BYTES, longest, "classifier")

    copies = [
        failed(delivery, letter * 100_000, None, Jitter(0.5, 0.5), MOMENT),
        dead(delivery, "undecodable", letter * 100_000, MOMENT),
    ]
    for copy in copies:
        assert frames.pack(copy, 1)


PLACE = "ZZ"  # stands for two bytes that are no UTF-8


async def put(url: str, queue: str, *, time: bytes | None = None, **properties: Any) -> None:  # noqa: ANN401 -- of any type
    """Publish as a program that is no friend of UTF-8, or of the calendar."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    header = commands.Basic.Properties(timestamp=moment if time else None, **properties)
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        under = await channel.get_underlay_channel()
        publish, head = commands.Basic.Publish(routing_key=queue), ContentHeader(0, 2, header)
        frame = ChannelFrame.marshall(under.number, [publish, head, ContentBody(b"{}")])
        payload = frame.payload.replace(PLACE.encode(), b"\xff\xfe")
        if time:
            payload = payload.replace(struct.pack(">Q", int(moment.timestamp())), time)
        await under.connection.write_queue.put(replace(frame, payload=payload))


async def fetched(url: str, queue: str, _: int) -> list[Delivery]:
    """Return all messages of a queue, fetched one by one."""
    async with (
        Connection.open([URL(url)], "tests", 0) as connection,
        fetching(connection, queue) as (_, found),
    ):
        return [each.delivery async for each in found]


async def consumed(url: str, queue: str, count: int) -> list[Delivery]:
    """Return so many messages of a queue, read by a consumer."""
    came = Came()
    async with Connection.open([URL(url)], "tests", 0) as connection:
        reading = reader(connection, came, queue)
        await reading.open()
        found = [message for message, _ in await taken(came, count)]
        await reading.stop()
    return found


@pytest.mark.rabbit
@pytest.mark.parametrize("read", [fetched, consumed])
async def test_no_message_ends_a_connection(
    vhost: str, read: Callable[[str, str, int], Awaitable[list[Delivery]]]
) -> None:
    """Bytes that are no UTF-8 in properties, header names and values; years beyond the calendar."""
    await declare(vhost, [], [Queue("q", None, ())])
    await put(vhost, "q", message_id=f"m{PLACE}1", message_type=PLACE, correlation_id=PLACE)
    await put(vhost, "q", headers={PLACE: "x", "x-attempt": 3})
    await put(vhost, "q", headers={"traceparent": PLACE})
    await put(vhost, "q", headers={"many": ["x"] * 20_000})
    await put(vhost, "q", time=b"\xff" * 8, message_id="late")
    await put(vhost, "q", message_id="last")

    found = await read(vhost, "q", 6)

    assert len(found) == 6
    assert (found[0].message_id, found[0].type) == ("m1", "q")
    assert [found[4].message_id, found[5].message_id] == ["late", "last"]


@given(st.binary(max_size=255))
def test_a_short_text_is_read_to_its_end(octets: bytes) -> None:
    """However odd, it is a text of at most its bytes, and the next value begins behind it."""
    end, text = short_text(bytes([len(octets)]) + octets + b"rest")

    assert end == 1 + len(octets)
    assert len(text.encode()) <= len(octets)


@given(st.binary(max_size=200))
def test_a_table_that_cannot_be_read_is_empty(octets: bytes) -> None:
    """The next value begins behind it, whatever its own lengths say."""
    end, found = table(struct.pack(">I", len(octets)) + octets + b"rest")

    assert end == 4 + len(octets)
    assert isinstance(found, dict)


def test_a_table_is_read_up_to_its_limit() -> None:
    """Pamqp's time for one grows by the square of its size."""
    ours: FieldTable = {"x-attempt": 3, "deep": {"er": [1, None]}}
    large: FieldTable = {"x": "y" * MAX_TABLE_BYTES}

    assert table(encode.field_table(ours))[1] == ours
    assert table(encode.field_table(large))[1] == {}


@pytest.mark.parametrize("octets", [b"\xff" * 8, b"\x7f" * 8], ids=["unsigned", "signed"])
def test_a_time_beyond_the_calendar_is_none(octets: bytes) -> None:
    """It says nothing."""
    assert timestamp(octets) == (8, None)


READ_TEXTS = dict.fromkeys(
    (
        *("content_type", "content_encoding", "correlation_id", "reply_to", "expiration"),
        *("message_id", "message_type", "user_id", "app_id"),
    ),
    st.text(min_size=1, max_size=60),
)
NUMBERS = {
    "delivery_mode": st.integers(1, 2),
    "priority": st.integers(1, 9),
    "timestamp": st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 -- hypothesis wants it so
}
READ_HEADERS = st.dictionaries(
    st.text(min_size=1, max_size=9), st.integers(1, 9) | st.text(), min_size=1
)


@given(st.fixed_dictionaries({}, optional=READ_TEXTS | NUMBERS | {"headers": READ_HEADERS}))
def test_properties_are_read_as_the_library_packs_them(values: dict[str, Any]) -> None:
    """All texts and the headers, whichever others are between them."""
    packed = ContentHeader(0, 2, commands.Basic.Properties(**values)).marshal()

    expected = {name: values[name] for name in values if name not in NUMBERS}
    assert properties(packed) == expected


@pytest.mark.parametrize("length", [0, 13, 14, 20])
def test_properties_that_end_too_early_are_an_error(length: int) -> None:
    """A consumer rejects their message."""
    packed = ContentHeader(0, 2, commands.Basic.Properties(content_type="x", app_id="y")).marshal()

    with pytest.raises((IndexError, struct.error)):
        properties(packed[: min(length, len(packed) - 2)])
