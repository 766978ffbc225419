"""Decoders of AMQP values that never raise, in place of pamqp's: any publisher sets such values.

pamqp 4 raises on a property or a header's name that is no UTF-8, and on a time beyond the
calendar; aiormq 7 ends the connection then, and one message stops a consumer for ever. pamqp's
time for a table grows by the square of its size.
"""

import struct
from typing import Any

from aiormq.exceptions import InvalidFrameError
from pamqp import commands, decode
from pamqp.exceptions import PAMQPException

MAX_TABLE_BYTES = 16_384  # of headers that are read: ours have some hundred; 128 KiB take a second
_SIZE = struct.Struct(">I")
_FLAGS = struct.Struct(">12xH")  # behind class, weight and size of the body
# In the order of their flags, from the highest bit on (AMQP 0-9-1, 1.8.1 and 4.2.6.1), each with
# its bytes, 0 for a short text. The names are pamqp's.
_HEADERS = "headers"
_PROPERTIES = tuple(
    (1 << bit, name, size)
    for bit, name, size in (
        (15, "content_type", 0),
        (14, "content_encoding", 0),
        (13, _HEADERS, 0),
        (12, "delivery_mode", 1),
        (11, "priority", 1),
        (10, "correlation_id", 0),
        (9, "reply_to", 0),
        (8, "expiration", 0),
        (7, "message_id", 0),
        (6, "timestamp", 8),
        (5, "message_type", 0),
        (4, "user_id", 0),
        (3, "app_id", 0),
        (2, "cluster_id", 0),
    )
)
_READ_ERRORS = (
    ArithmeticError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    PAMQPException,
)


def short_text(value: bytes) -> tuple[int, str]:
    """Return the bytes read and the text, without invalid UTF-8; at most 255 bytes."""
    end = 1 + value[0]
    return end, value[1:end].decode("utf-8", "ignore")


def table(value: bytes) -> tuple[int, Any]:
    """Return the bytes read and the table; one that cannot be read, or is too large, is empty."""
    end = _SIZE.size + _SIZE.unpack_from(value)[0]
    if end > MAX_TABLE_BYTES:
        return end, {}
    try:
        return end, decode.field_table(value[:end])[1]
    except _READ_ERRORS:
        return end, {}


def timestamp(value: bytes) -> tuple[int, Any]:
    """Return the bytes read and the time, None for one beyond the calendar."""
    try:
        return decode.timestamp(value)
    except _READ_ERRORS:
        return 8, None


def properties(header: bytes) -> dict[str, Any]:
    """Return the properties in a content header that are texts, and the headers.

    Raises IndexError or struct.error when it ends too early, which no broker should send.
    """
    found: dict[str, Any] = {}
    (flags,), at = _FLAGS.unpack_from(header), _FLAGS.size
    for flag, name, size in _PROPERTIES:
        if not flags & flag:
            continue
        if size:
            at += size
        elif name == _HEADERS:
            length, found[name] = table(header[at:])
            at += length
        else:
            end = at + 1 + header[at]
            found[name] = header[at + 1 : end].decode("utf-8", "ignore")
            at = end
    return found


def refused_by(error: InvalidFrameError) -> str:
    """Return the reply code and text by which the broker refused to open a connection.

    aiormq 7 shows no more of the broker's answer than its `repr`.
    """
    return str(error).rpartition("got ")[2]


def _close_words(close: commands.Connection.Close) -> str:
    return f"{close.reply_code} {close.reply_text}"


def install() -> None:
    """Replace pamqp's readers of the properties of messages, and its words for a refusal."""
    setattr(commands.Connection.Close, "__repr__", _close_words)  # noqa: B010 -- pamqp's class
    decode.METHODS |= {"shortstr": short_text, "table": table, "timestamp": timestamp}
