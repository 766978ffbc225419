"""Properties: packed as the library packs them; a stranger's never stop a consumer."""

import struct
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, encode, header

from shared.amqp.errors import Closed
from shared.amqp.properties import MAX_TABLE_BYTES, Properties, pack, unpack

TEXTS = st.text(min_size=1, max_size=60)
KEYS = st.text(min_size=1, max_size=32)  # of 128 bytes at most, as the library cuts them
HEADERS = st.dictionaries(
    KEYS,
    st.text(max_size=100) | st.integers(-(2**63), 2**63 - 1),
    max_size=5,
)
OURS = st.builds(
    Properties,
    content_type=st.none() | TEXTS,
    headers=HEADERS,
    persistent=st.booleans(),
    correlation_id=st.none() | TEXTS,
    reply_to=st.none() | TEXTS,
    message_id=st.none() | TEXTS,
    timestamp=st.none() | st.integers(0, 2**32 - 1),
    type=st.none() | TEXTS,
    user_id=st.none() | TEXTS,
    app_id=st.none() | TEXTS,
)
# What pamqp writes, nested; a table's integers are its own choice of size.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=20)
    | st.binary(max_size=20).map(bytearray)
    | st.decimals(-1000, 1000, places=2)
    | st.floats(width=32, allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
MOMENT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "headers": {"a": 1},
    "delivery_mode": 1,
    "priority": 9,
    "correlation_id": "c",
    "reply_to": "r",
    "expiration": "60000",
    "message_id": "m",
    "timestamp": MOMENT,
    "message_type": "t",
    "user_id": "guest",
    "app_id": "a",
}


def foreign(**properties: Any) -> bytes:  # noqa: ANN401 -- each has its own type
    """Give the header frame of a stranger's message, as the library packs it."""
    return bytes(header.ContentHeader(0, 9, commands.Basic.Properties(**properties)).marshal())


def with_headers(table: bytes) -> bytes:
    """Give a header frame with nothing but a packed table, and an id after it."""
    start = struct.pack(">HHQH", 60, 0, 9, 1 << 13 | 1 << 7)
    return start + struct.pack(">I", len(table)) + table + b"\x01m"


@given(OURS, st.integers(0, 2**40))
def test_what_is_packed_is_what_the_library_packs(ours: Properties, size: int) -> None:
    """Byte by byte; so every other client reads it."""
    theirs = commands.Basic.Properties(
        content_type=ours.content_type,
        headers=dict(ours.headers) or None,
        delivery_mode=2 if ours.persistent else 1,
        correlation_id=ours.correlation_id,
        reply_to=ours.reply_to,
        message_id=ours.message_id,
        timestamp=None
        if ours.timestamp is None
        else datetime.fromtimestamp(ours.timestamp, tz=UTC),
        message_type=ours.type,
        user_id=ours.user_id,
        app_id=ours.app_id,
    )

    assert pack(ours, size) == header.ContentHeader(0, size, theirs).marshal()


@given(OURS, st.integers(0, 2**63))
def test_what_is_packed_is_read_back(ours: Properties, size: int) -> None:
    """Nothing is lost between two services of ours."""
    assert unpack(pack(ours, size)) == (size, ours)


def test_nothing_is_packed_as_nothing() -> None:
    """Without properties but the delivery mode there is nothing else on the wire."""
    assert pack(Properties(), 5) == struct.pack(">HHQHB", 60, 0, 5, 1 << 12, 2)


@pytest.mark.parametrize(
    "ours",
    [
        Properties(message_id="m" * 256),
        Properties(type="é" * 128),
        Properties(correlation_id="\udce9"),
        Properties(headers={"a": object()}),
        Properties(headers={"a": 2**64}),
        Properties(headers={"a": "\udce9"}),
    ],
    ids=["long", "wide", "no text", "no type", "too large a number", "a header of no text"],
)
def test_what_no_frame_holds_is_a_value_error(ours: Properties) -> None:
    """It is told to its publisher before anything is sent."""
    with pytest.raises(ValueError, match=r"255|surrogates|cannot be sent"):
        pack(ours, 1)


def test_all_properties_of_a_stranger_are_passed() -> None:
    """Those that are none of ours are passed over, wherever they stand."""
    size, read = unpack(foreign(**ALL))

    assert size == 9
    assert read == Properties(
        content_type="text/plain",
        headers={"a": 1},
        persistent=False,
        correlation_id="c",
        reply_to="r",
        message_id="m",
        timestamp=round(MOMENT.timestamp()),
        type="t",
        user_id="guest",
        app_id="a",
    )


@given(st.sets(st.sampled_from(sorted(ALL))))
def test_any_properties_of_a_stranger_are_passed(names: set[str]) -> None:
    """One that is missing moves no other."""
    _, read = unpack(foreign(**{name: ALL[name] for name in names}))

    assert read.message_id == ("m" if "message_id" in names else None)
    assert read.app_id == ("a" if "app_id" in names else None)
    assert read.headers == ({"a": 1} if "headers" in names else {})
    assert not read.persistent


def test_a_cluster_id_is_passed() -> None:
    """The last of the fourteen, which nobody may set and the library does not write."""
    start = struct.pack(">HHQH", 60, 0, 9, 1 << 3 | 1 << 2)

    assert unpack(start + b"\x01a\x02cl") == (9, Properties(app_id="a", persistent=False))


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_headers_of_any_type_are_read(table: dict[str, Any]) -> None:
    """As the broker's own `x-death`: tables in lists in a table."""
    data = encode.field_table(table)[4:]
    _, read = unpack(with_headers(data))

    assert read.message_id == "m"
    assert read.headers == table


def test_a_dead_letter_s_story_is_read() -> None:
    """The time of a death is a time."""
    death = {"count": 1, "queue": "q", "time": MOMENT, "routing-keys": ["k"], "x": Decimal("1.5")}

    assert unpack(foreign(headers={"x-death": [death]}))[1].headers == {"x-death": [death]}


@pytest.mark.parametrize(
    "table",
    [
        b"\x01aT\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01aZ1234",
        b"\x01aS\xff\xff\xff\xff",
        b"\x01aS\x00\x00",
        b"\x05a",
        b"\x02\xff\xfet\x01",
        b"\x01aA\x00\x00\x00\x05\x01",
        b"\x00" + b"F\x00\x00\x10\x00\x00" * 2000,
        b"".join(b"\x01aF" + struct.pack(">I", 7 * (2000 - depth)) for depth in range(1, 2001)),
        b"\x01aD\xff\xff\xff\xff\xff",
        b"\x01a",
    ],
    ids=[
        "a time beyond the calendar",
        "an unknown type",
        "a text beyond the end",
        "a length cut off",
        "a key beyond the end",
        "a key that is no text",
        "a list beyond the end",
        "tables that do not fit",
        "tables in tables in tables",
        "a tiny decimal",
        "no value",
    ],
)
def test_headers_that_cannot_be_read_stop_nobody(table: bytes) -> None:
    """They are none, or what could be read; the rest of the message is there."""
    size, read = unpack(with_headers(table))

    assert (size, read.message_id) == (9, "m")


def test_headers_of_no_reasonable_size_are_none() -> None:
    """To read them would take time that all other consumers wait for."""
    _, read = unpack(with_headers(b"\x00V" * (MAX_TABLE_BYTES // 2)))

    assert read == Properties(message_id="m", persistent=False)


def test_text_that_is_no_utf8_is_read_without_it() -> None:
    """Any client may set any bytes."""
    start = struct.pack(">HHQH", 60, 0, 0, 1 << 15 | 1 << 7)

    _, read = unpack(start + b"\x03\xff\xfea" + b"\x02m\x80")

    assert (read.content_type, read.message_id) == ("a", "m")


@given(st.binary(max_size=300))
def test_noise_is_told_as_such(noise: bytes) -> None:
    """Nothing but Closed is raised, whatever comes."""
    with suppress(Closed):  # and nothing else
        assert unpack(noise)[0] >= 0


@given(st.integers(0, 0xFFFF), st.binary(max_size=120))
def test_noise_after_good_flags_is_told_as_such(flags: int, noise: bytes) -> None:
    """Every property meets an end that comes too early."""
    with suppress(Closed):  # and nothing else
        assert unpack(struct.pack(">HHQH", 60, 0, 9, flags) + noise)[0] == 9


@given(OURS, st.integers(1, 40))
def test_properties_that_are_cut_off_are_told_as_such(ours: Properties, missing: int) -> None:
    """What is missing is not made up."""
    whole = pack(ours, 1)

    with pytest.raises(Closed):
        unpack(whole[: -min(missing, len(whole))])
