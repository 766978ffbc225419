"""Pure: a message's properties and their packed form (AMQP 0-9-1, section 4.2.6.1)."""

import struct
from collections.abc import Mapping
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
_OCTETS = ("delivery_mode", "priority")
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
    app_id: str | None = None


_PACKED_FLAGS = tuple(
    _FLAGS["delivery_mode" if name == "persistent" else name] for name in Properties._fields
)


def pack(properties: Properties, size: int) -> bytes:
    """Give the payload of the header frame of a body of `size` bytes.

    Raises ValueError when a text is longer than 255 bytes, or a header has no AMQP type.
    """
    flags, parts = 0, [b""]
    for flag, value in zip(_PACKED_FLAGS, properties, strict=True):
        match value:
            case None:
                continue
            case str():
                parts.append(_short(value))
            case bool():
                parts.append(_PERSISTENT if value else _TRANSIENT)
            case int():
                parts.append(_LONG.pack(value))
            case _:
                if not value:
                    continue
                parts.append(_packed_table(value))
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
        return size, Properties(**_values(payload, _present(flags)))
    except READ_ERRORS as error:
        raise Closed(f"properties that cannot be read: {type(error).__name__}") from error


@lru_cache
def _present(flags: int) -> tuple[str, ...]:
    return tuple(name for name in _NAMES if flags & _FLAGS[name])


def _values(payload: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"persistent": False}
    at = _START.size
    for name in names:
        if name == "headers":
            end = at + 4 + _SIZE.unpack_from(payload, at)[0]
            found[name] = _table(payload[at:end])
        elif name == "timestamp":
            end = at + 8
            found[name] = _LONG.unpack_from(payload, at)[0]
        elif name in _OCTETS:
            end = at + 1
            if name == "delivery_mode":
                found["persistent"] = payload[at:end] == _PERSISTENT
        else:
            end = at + 1 + payload[at]
            if name in Properties._fields:
                # Text that is no UTF-8 must not stop a consumer; nor may it grow past 255 bytes.
                found[name] = payload[at + 1 : end].decode("utf-8", "ignore")
        at = end
    if at > len(payload):
        raise ValueError("properties end too early")
    return found


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


def _short(text: str) -> bytes:
    packed = text.encode()
    if len(packed) > MAX_SHORT_BYTES:
        raise ValueError(f"a property has more than {MAX_SHORT_BYTES} bytes")
    return bytes((len(packed),)) + packed
