"""Frames are packed by hand as pamqp packs them, so that every other client reads them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header

from shared.delivery import TRACE, Delivery, Jitter, Publishing, dead, failed
from shared.identity import Identity
from shared.rabbitmq.frames import MAX_SHORT_BYTES, PublishFrames, ack, nack
from shared.rabbitmq.queue_reader import MAX_TRACE_BYTES
from shared.retry import MAX_ATTEMPTS
from tests.shared.messages import MOMENT

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
