"""The bytes that come from the broker: messages and confirms are read here, all else by aiormq.

aiormq reads a delivery as three frames, by two queues and a task of its own, in some 60 µs: more
than all else that is done for an event.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pamqp import commands

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_KINDS = {_METHOD, _HEADER, _BODY, _HEARTBEAT}
_FRAME = struct.Struct(">BHI")  # kind, channel, size; behind the payload there is one more byte
_BODY_SIZE = struct.Struct(">4xQ")  # in a content header, after class and weight
_HEARTBEAT_FRAME = _FRAME.pack(_HEARTBEAT, 0, 0) + b"\xce"
_HEARTBEAT_SECONDS = 1.0

DELIVER, RETURN, ACK, NACK = (
    struct.pack(">I", method.index)
    for method in (
        commands.Basic.Deliver,
        commands.Basic.Return,
        commands.Basic.Ack,
        commands.Basic.Nack,
    )
)
_WITH_CONTENT = {DELIVER, RETURN}

# A method's arguments, its content header and its body; the last two are empty for most methods.
OnMethod = Callable[[bytes, bytes, bytes], None]

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Content:
    """A method whose content has not come whole."""

    on_method: OnMethod
    arguments: bytes
    header: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    missing: int = 0  # bytes of the body; 1 while its header has not come


class BrokerStream(asyncio.StreamReader):
    """Calls a function for each method that one is set for; aiormq reads the frames of all others.

    The frames of one message follow each other on their channel (AMQP 0-9-1, 4.2.6).
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop=loop)
        self._clock = loop.time
        self._passed_at = 0.0
        self._methods: dict[tuple[int, bytes], OnMethod] = {}
        self._contents: dict[int, _Content] = {}  # by channel
        self._rest = b""  # of a frame that has not come whole

    def on(self, channel: int, method: bytes, call: OnMethod) -> None:
        """Call a function for each method of a kind on a channel, from now on."""
        self._methods[channel, method] = call

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # a transport has bytes
        """Read the whole frames of what came. Called by the transport."""
        data, at, others = self._rest + data, 0, list[bytes]()
        while len(data) >= at + _FRAME.size:
            kind, channel, size = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + size + 1
            if kind not in _KINDS:  # no AMQP: aiormq ends the connection
                others.append(data[at:])
                at = len(data)
                break
            if end > len(data):
                break
            if not self._took(kind, channel, data[at + _FRAME.size : end - 1]):
                others.append(data[at:end])
            at = end
        self._rest = data[at:]
        now = self._clock()
        if not others and self._methods and now >= self._passed_at + _HEARTBEAT_SECONDS:
            # aiormq ends a connection on which it sees nothing, and a broker that sends messages
            # sends no heartbeats (RabbitMQ's `rabbit_heartbeat` counts all bytes).
            others.append(_HEARTBEAT_FRAME)
        if others:
            self._passed_at = now
            super().feed_data(b"".join(others))

    def feed_eof(self) -> None:
        """Pass the end on. Called by the transport, perhaps twice."""
        rest, self._rest = self._rest, b""
        if rest:
            super().feed_data(rest)
        super().feed_eof()

    def _took(self, kind: int, channel: int, payload: bytes) -> bool:
        """Process a frame and return True, or return False for a frame that aiormq reads."""
        content = self._contents.pop(channel, None)  # dropped for a method: the channel was closed
        if kind == _METHOD:
            method = payload[:4]
            on_method = self._methods.get((channel, method))
            content = on_method and _Content(
                on_method, payload[4:], missing=method in _WITH_CONTENT
            )
        if content is None:
            return False
        if kind == _HEADER:
            content.header = payload
            (content.missing,) = _BODY_SIZE.unpack_from(payload)
        elif kind == _BODY:
            content.pieces.append(payload)
            content.missing -= len(payload)
        if content.missing > 0:
            self._contents[channel] = content
            return True
        try:
            content.on_method(content.arguments, content.header, b"".join(content.pieces))
        except Exception:  # raised on, it would end the connection
            logger.exception("a message of the broker could not be passed on")
        return True
