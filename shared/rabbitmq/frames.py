"""Pure: the frames of a publish, a delivery and an acknowledgement (AMQP 0-9-1, 1.8 and 4.2).

pamqp packs and reads every other frame. For these, of which each message takes some, it needs
80 µs, a sixth of what a mail costs.

The decoders of values never raise, in place of pamqp's: any publisher sets such values. pamqp 4
raises on a property or a header's name that is no UTF-8, and on a time beyond the calendar; aiormq
7 ends the connection then, and one message stops a consumer for ever. pamqp's time for a table
grows by the square of its size.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from aiormq.exceptions import InvalidFrameError
from pamqp import commands, decode, encode, frame
from pamqp.exceptions import PAMQPException

from shared.delivery import Publishing

MAX_SHORT_BYTES = 255
_METHOD, _HEADER, _BODY, _END = 1, 2, 3, 0xCE
_END_BYTE = bytes([_END])
_PUBLISH_KEYS = 1024  # of which the packed form is kept; addresses of askers come and go

_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HHQH")  # class, weight, size of the body, flags
_TIMESTAMP = struct.Struct(">Q")
_SETTLE = struct.Struct(">BHIIQBB")  # a frame with a method, a delivery tag and bits
_SETTLE_LENGTH = 13
_ACK, _NACK = commands.Basic.Ack.index, commands.Basic.Nack.index
_MULTIPLE, _REQUEUE = 1, 2  # bits
_TAG = struct.Struct(">Q")

# The flags of the properties, in the order of their values.
_CONTENT_TYPE, _HEADERS, _DELIVERY_MODE = 1 << 15, 1 << 13, 1 << 12
_CORRELATION_ID, _REPLY_TO, _MESSAGE_ID, _TIME = 1 << 10, 1 << 9, 1 << 7, 1 << 6
_TYPE, _USER_ID, _APP_ID = 1 << 5, 1 << 4, 1 << 3
_ALWAYS = _CONTENT_TYPE | _DELIVERY_MODE | _CORRELATION_ID | _MESSAGE_ID | _TIME | _TYPE
_ALWAYS |= _USER_ID | _APP_ID
_LENGTHS = tuple(bytes([length]) for length in range(MAX_SHORT_BYTES + 1))
_PERSISTENT, _TRANSIENT = b"\x02", b"\x01"
MAX_TABLE_BYTES = 16_384  # of headers that are read: ours have some hundred; 128 KiB take a second
_SIZE = struct.Struct(">I")
_FLAGS = struct.Struct(">12xH")  # behind class, weight and size of the body
# In the order of their flags, from the highest bit on (AMQP 0-9-1, 1.8.1 and 4.2.6.1), each with
# its bytes, 0 for a short text. The names are pamqp's.
_TABLE_NAME = "headers"
_PROPERTIES = tuple(
    (1 << bit, name, size)
    for bit, name, size in (
        (15, "content_type", 0),
        (14, "content_encoding", 0),
        (13, _TABLE_NAME, 0),
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
_JSON = b"\x10application/json"  # the content type, with its length before it


class PublishFrames:
    """Packs the messages that one service publishes on one channel, as one of its users.

    `max_payload_bytes` is that of a frame, as agreed with the broker.
    """

    def __init__(self, channel: int, max_payload_bytes: int, user_id: str, app_id: str) -> None:
        self._channel = channel
        self._room = max_payload_bytes
        self._ends = _short(user_id) + _short(app_id)

    def pack(self, item: Publishing, timestamp: int) -> bytes:
        """Return the frames of a message; `timestamp` is in seconds since 1970.

        Raises ValueError for what no frame can hold: an id, a key or another short text of more
        than 255 bytes, headers larger than a frame, a header of a type that AMQP has not.
        """
        header = self._header(item, timestamp)
        if len(header) > self._room:
            raise ValueError(f"the properties have more than {self._room} bytes")
        parts = [
            _method(self._channel, item.exchange, item.routing_key, mandatory=item.mandatory),
            _FRAME.pack(_HEADER, self._channel, len(header)),
            header,
            _END_BYTE,
        ]
        for at in range(0, len(item.body), self._room):
            piece = item.body[at : at + self._room]
            parts += (_FRAME.pack(_BODY, self._channel, len(piece)), piece, _END_BYTE)
        return b"".join(parts)

    def _header(self, item: Publishing, timestamp: int) -> bytes:
        headers, reply_to, flags = b"", b"", _ALWAYS
        if item.headers:
            headers, flags = _table(item.headers), flags | _HEADERS
        if item.reply_to is not None:
            reply_to, flags = _short(item.reply_to), flags | _REPLY_TO
        return b"".join(
            (
                _CONTENT.pack(commands.Basic.frame_id, 0, len(item.body), flags),
                _JSON,
                headers,
                _PERSISTENT if item.persistent else _TRANSIENT,
                _short(item.correlation_id),
                reply_to,
                _short(item.message_id),
                _TIMESTAMP.pack(timestamp),
                _short(item.type),
                self._ends,
            )
        )


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Return `basic.ack` of one delivery, or of all that are unsettled up to it."""
    return _SETTLE.pack(_METHOD, channel, _SETTLE_LENGTH, _ACK, tag, _MULTIPLE * multiple, _END)


def nack(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Return `basic.nack` of one delivery, which requeues or else rejects it."""
    bits = _REQUEUE * requeue
    return _SETTLE.pack(_METHOD, channel, _SETTLE_LENGTH, _NACK, tag, bits, _END)


def delivered(arguments: bytes) -> tuple[int, str]:
    """Return the delivery tag and the routing key of a `basic.deliver`."""
    at = 1 + arguments[0]  # behind the consumer's tag
    (tag,) = _TAG.unpack_from(arguments, at)
    at += _TAG.size + 1  # the bit says that it was delivered before
    at += 1 + arguments[at]  # behind the exchange
    return tag, arguments[at + 1 :].decode("utf-8", "ignore")


def confirmed(arguments: bytes) -> tuple[int, bool]:
    """Return the number of a `basic.ack` or `basic.nack`, and whether it is for all up to it."""
    (tag,) = _TAG.unpack_from(arguments)
    return tag, bool(arguments[_TAG.size] & _MULTIPLE)


@lru_cache(_PUBLISH_KEYS)
def _method(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    method = commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    try:
        return frame.marshal(method, channel)
    except TypeError as error:  # of a key that is too long
        raise ValueError(str(error)) from error


def _short(text: str) -> bytes:
    packed = text.encode()
    if len(packed) > MAX_SHORT_BYTES:
        raise ValueError(f"a property has more than {MAX_SHORT_BYTES} bytes")
    return _LENGTHS[len(packed)] + packed


def _table(headers: Mapping[str, str | int]) -> bytes:
    try:
        return encode.field_table(dict(headers))
    except TypeError as error:
        raise ValueError(f"a header that cannot be sent: {error}") from error


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
        elif name == _TABLE_NAME:
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
