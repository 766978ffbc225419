"""Pure: a message's properties and their packed form (AMQP 0-9-1, section 4.2.6.1)."""

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pamqp import decode, encode

from shared.amqp.errors import READ_ERRORS, Closed

BASIC = 60  # the class that all messages belong to
MAX_SHORT_BYTES = 255
# Of headers that are read: ours have some hundred, and pamqp takes a second for 128 KiB of a
# stranger's (its time grows by the square).
MAX_TABLE_BYTES = 16_384
_PERSISTENT, _TRANSIENT = b"\x02", b"\x01"
_START = struct.Struct(">HHQH")  # class, weight, size of the body, flags
_LONG = struct.Struct(">Q")
_SIZE = struct.Struct(">I")
_LENGTHS = tuple(bytes((length,)) for length in range(MAX_SHORT_BYTES + 1))

# In the order of their flags, from the highest bit down, and of their values.
_NAMES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
_FLAGS = {name: 1 << (15 - place) for place, name in enumerate(_NAMES)}
_NONE: Mapping[str, Any] = MappingProxyType({})


class Properties(NamedTuple):
    """What travels with a body, in the order of its packed form; what is not there is None."""

    content_type: str | None = None
    headers: Mapping[str, Any] = _NONE
    persistent: bool = True
    correlation_id: str | None = None
    reply_to: str | None = None
    message_id: str | None = None
    timestamp: int | None = None  # seconds since 1970
    type: str | None = None
    user_id: str | None = None  # refused by the broker unless it is the connection's own user
    app_id: str | None = None


# Their places by the names of the protocol, which has the same order.
_PLACES = {
    "delivery_mode" if name == "persistent" else name: place
    for place, name in enumerate(Properties._fields)
}
_PACKED_FLAGS = tuple(_FLAGS[name] for name in _PLACES)
_ABSENT = Properties(persistent=False)


def pack(properties: Properties, size: int) -> bytes:
    """Give the payload of the header frame of a body of `size` bytes.

    Raises ValueError when a text is longer than 255 bytes, or a header has no AMQP type.
    """
    flags, parts = 0, [b""]
    for flag, value in zip(_PACKED_FLAGS, properties, strict=True):
        if value is None:
            continue
        if isinstance(value, str):
            packed = value.encode()
            if len(packed) > MAX_SHORT_BYTES:
                raise ValueError(f"a property has more than {MAX_SHORT_BYTES} bytes")
            parts += (_LENGTHS[len(packed)], packed)
        elif isinstance(value, bool):
            parts.append(_PERSISTENT if value else _TRANSIENT)
        elif isinstance(value, int):
            parts.append(_LONG.pack(value))
        elif value:
            parts.append(_packed_table(value))
        else:
            continue
        flags |= flag
    parts[0] = _START.pack(BASIC, 0, size, flags)
    return b"".join(parts)


def unpack(payload: bytes) -> tuple[int, Properties]:
    """Read a header frame: the size of the body, and the properties. Raises Closed.

    Of those that a stranger has set, what is none of ours is passed over, and headers that cannot
    be read are none at all.
    """
    try:
        _, _, size, flags = _START.unpack_from(payload)
        return size, Properties._make(_values(payload, _present(flags)))
    except READ_ERRORS as error:
        raise Closed(f"properties that cannot be read: {type(error).__name__}") from error


@lru_cache
def _present(flags: int) -> tuple[tuple[str, int | None], ...]:
    """Give the names that are there, each with its place in Properties if it has one."""
    return tuple((name, _PLACES.get(name)) for name in _NAMES if flags & _FLAGS[name])


def _values(payload: bytes, names: tuple[tuple[str, int | None], ...]) -> list[Any]:
    found = list(_ABSENT)
    at = _START.size
    for name, place in names:
        if name in _LONGER:
            value, end = _LONGER[name](payload, at)
        else:
            end = at + 1 + payload[at]
            # Text that is no UTF-8 must not stop a consumer; nor may it grow past 255 bytes.
            value = payload[at + 1 : end].decode("utf-8", "ignore")
        if place is not None:
            found[place] = value
        at = end
    if at > len(payload):
        raise ValueError("properties end too early")
    return found


def _octet(payload: bytes, at: int) -> tuple[bool, int]:
    return payload[at : at + 1] == _PERSISTENT, at + 1


def _long(payload: bytes, at: int) -> tuple[int, int]:
    return _LONG.unpack_from(payload, at)[0], at + 8


def _headers(payload: bytes, at: int) -> tuple[Mapping[str, Any], int]:
    end = at + 4 + _SIZE.unpack_from(payload, at)[0]
    return _table(payload[at:end]), end


# How to read what is no short text.
_LONGER: Mapping[str, Callable[[bytes, int], tuple[Any, int]]] = {
    "headers": _headers,
    "delivery_mode": _octet,
    "priority": _octet,
    "timestamp": _long,
}


def _table(packed: bytes) -> Mapping[str, Any]:
    if len(packed) > MAX_TABLE_BYTES:
        return _NONE
    try:
        return decode.field_table(packed)[1]
    except READ_ERRORS:
        return _NONE


def _packed_table(headers: Mapping[str, Any]) -> bytes:
    try:
        return encode.field_table(dict(headers))
    except TypeError as error:
        raise ValueError(f"a header that cannot be sent: {error}") from error
