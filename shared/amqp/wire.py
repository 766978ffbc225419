"""Pure: frames as bytes and back (AMQP 0-9-1, section 4.2).

The methods of which each message takes some are read and packed by hand; pamqp does the others.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from pamqp import commands, frame
from pamqp.base import Frame

from shared.amqp.errors import READ_ERRORS, Closed

PROTOCOL = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
END_BYTE = bytes([END])
# Around the payload of a frame: type, channel, length; the end mark.
OVERHEAD_BYTES = 8
LARGEST_FRAME = 131_072  # bytes; RabbitMQ's own default, and the most that we take
HEARTBEAT_FRAME = struct.pack(">BHIB", HEARTBEAT, 0, 0, END)

DELIVER = commands.Basic.Deliver.index
ACK = commands.Basic.Ack.index
NACK = commands.Basic.Nack.index
MULTIPLE = 1

_FRAME = struct.Struct(">BHI")
_METHOD = struct.Struct(">I")
_DELIVERY = struct.Struct(">QBB")  # tag, redelivered, length of the exchange's name
_CONFIRM = struct.Struct(">QB")  # tag, flags
_ACK = struct.Struct(">BHIIQBB")
_ACK_LENGTH = 13
_REQUEUE = 2
_PUBLISH_KEYS = 1024  # of which the packed form is remembered; askers' addresses come and go


class Delivered(NamedTuple):
    """The method that announces a delivery."""

    consumer: str
    tag: int
    routing_key: str


class Cutter:
    """Cuts what comes from the broker into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Give type, channel and payload of each frame that is complete.

        Raises Closed for what is no frame, or one of more than LARGEST_FRAME bytes.
        """
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= OVERHEAD_BYTES:
            kind, channel, length = _FRAME.unpack_from(data, at)
            end = at + OVERHEAD_BYTES + length
            if end - at > LARGEST_FRAME:
                raise Closed("what comes is not AMQP 0-9-1, or a frame is too large")
            if end > size:
                break
            if data[end - 1] != END:
                raise Closed("what comes is not AMQP 0-9-1")
            yield kind, channel, data[at + 7 : end - 1]
            at = end
        self._rest = data[at:]


def method_of(payload: bytes) -> int:
    """Give the number of a method: its class and its own. Raises Closed."""
    try:
        number: int = _METHOD.unpack_from(payload)[0]
    except struct.error as error:
        raise _unreadable(error) from error
    return number


def read_method(payload: bytes) -> Frame:
    """Read any method. Raises Closed when it cannot be read."""
    try:
        method: Frame = commands.INDEX_MAPPING[method_of(payload)]()
        method.unmarshal(payload[4:])
    except READ_ERRORS as error:
        raise _unreadable(error) from error
    return method


def read_deliver(payload: bytes) -> Delivered:
    """Read `basic.deliver`. Raises Closed when it cannot be read."""
    try:
        at = 5 + payload[4]
        tag, _, length = _DELIVERY.unpack_from(payload, at)
        key = at + 10 + length
        routing_key = payload[key + 1 : key + 1 + payload[key]]
    except READ_ERRORS as error:
        raise _unreadable(error) from error
    # Keys are the choice of strangers; text that is no UTF-8 must not stop a consumer.
    return Delivered(
        payload[5:at].decode("utf-8", "ignore"), tag, routing_key.decode("utf-8", "ignore")
    )


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Read tag and `multiple` of `basic.ack` or `basic.nack`. Raises Closed."""
    try:
        tag, flags = _CONFIRM.unpack_from(payload, 4)
    except struct.error as error:
        raise _unreadable(error) from error
    return tag, bool(flags & MULTIPLE)


def method(method: Frame, channel: int) -> bytes:
    """Pack any method. Raises ValueError when an argument does not fit."""
    try:
        return frame.marshal(method, channel)
    except TypeError as error:  # what pamqp calls a text that is too long
        raise ValueError(str(error)) from error


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Pack `basic.ack`; `multiple` is for all deliveries up to this one."""
    return _ACK.pack(METHOD, channel, _ACK_LENGTH, ACK, tag, multiple, END)


def requeue(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Pack `basic.nack` that puts back; `multiple` is for all deliveries up to this one."""
    flags = _REQUEUE | multiple
    return _ACK.pack(METHOD, channel, _ACK_LENGTH, NACK, tag, flags, END)


def reject(channel: int, tag: int) -> bytes:
    """Pack `basic.nack` that does not put back: the broker has its own dead lettering."""
    return _ACK.pack(METHOD, channel, _ACK_LENGTH, NACK, tag, 0, END)


@lru_cache(_PUBLISH_KEYS)
def publish(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Pack `basic.publish`. Raises ValueError when the key is longer than 255 bytes."""
    packed = commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return method(packed, channel)


def content(channel: int, header: bytes, body: bytes, largest: int) -> bytes:
    """Pack a content's header and its body, in frames of at most `largest` bytes.

    Raises ValueError for a header that no frame can hold: a broker hangs up on one.
    """
    if len(header) + OVERHEAD_BYTES > largest:
        raise ValueError(f"the properties have more than {largest - OVERHEAD_BYTES} bytes")
    parts = [_FRAME.pack(HEADER, channel, len(header)), header, END_BYTE]
    step = largest - OVERHEAD_BYTES
    for at in range(0, len(body), step):
        piece = body[at : at + step]
        parts += (_FRAME.pack(BODY, channel, len(piece)), piece, END_BYTE)
    return b"".join(parts)


def _unreadable(error: Exception) -> Closed:
    return Closed(f"a method that cannot be read: {type(error).__name__}")
