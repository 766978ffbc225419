"""Any properties and headers are read as far as possible, and end no connection."""

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
from pamqp import commands, encode
from pamqp.body import ContentBody
from pamqp.common import FieldTable
from pamqp.header import ContentHeader
from yarl import URL

from shared.delivery import Delivery
from shared.rabbitmq import Connection, declare, fetching
from shared.rabbitmq.values import MAX_TABLE_BYTES, properties, short_text, table, timestamp
from shared.topology import Queue
from tests.shared.rabbitmq.messages import Came, reader, taken

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
        Connection.open(URL(url), "tests", 0) as connection,
        fetching(connection, queue) as (_, found),
    ):
        return [each.delivery async for each in found]


async def consumed(url: str, queue: str, count: int) -> list[Delivery]:
    """Return so many messages of a queue, read by a consumer."""
    came = Came()
    async with Connection.open(URL(url), "tests", 0) as connection:
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


TEXTS = dict.fromkeys(
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
HEADERS = st.dictionaries(
    st.text(min_size=1, max_size=9), st.integers(1, 9) | st.text(), min_size=1
)


@given(st.fixed_dictionaries({}, optional=TEXTS | NUMBERS | {"headers": HEADERS}))
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
