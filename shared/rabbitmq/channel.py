"""A channel, and the socket on which its messages, confirms and acknowledgements go.

All other frames are aiormq's. It reads a delivery as three frames, by two queues and a task of its
own, in some 60 µs: more than all else that is done for an event.
"""

import asyncio
import ssl
import struct
import sys
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiormq import TransportFactory
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as LibraryChannel
from pamqp import commands
from yarl import URL

from shared.errors import Unavailable
from shared.rabbitmq import frames

MAX_BUFFERED_BYTES = 65_536  # that wait for the socket while more may be published
MAX_FRAMES_TOGETHER = 32  # messages that are sent by one system call

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


class Socket(TransportFactory):
    """Opens the socket of a connection for aiormq, and reads and writes the frames of messages.

    aiormq's own way to write, by a queue and a task for each frame, takes three times as long as
    all else that is done for a message.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.stream = BrokerStream()
        self.writer: asyncio.StreamWriter
        self._frames: list[bytes] = []
        self._size = 0

    async def create(
        self,
        url: URL,
        **_more: Any,  # noqa: ANN401 -- aiormq's
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, for aiormq."""
        protocol = asyncio.StreamReaderProtocol(self.stream, loop=self._loop)
        transport, _ = await self._loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, ssl=self._context
        )
        self.writer = asyncio.StreamWriter(transport, protocol, self.stream, self._loop)
        return self.stream, self.writer

    def write(self, data: bytes) -> None:
        """Send whole frames, together with others of this turn of the loop.

        A system call for each would cost more than all else that is done for a message.
        """
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append(data)
        self._size += len(data)
        if len(self._frames) >= MAX_FRAMES_TOGETHER or self._size > MAX_BUFFERED_BYTES:
            self._flush()

    async def writable(self) -> None:
        """Wait while the broker does not keep up. Raises ConnectionError when it is lost."""
        await self.writer.drain()
        while self.writer.transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            await self.writer.drain()  # others, which waited too, have written since

    def _flush(self) -> None:
        data = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        if data and not self.writer.is_closing():
            self.writer.write(data)


class Channel:
    """A channel of aiormq, and the socket by which messages, confirms and acknowledgements go.

    Methods with an answer go through `library`.
    """

    def __init__(self, library: LibraryChannel, socket: Socket) -> None:
        self.library = library
        self.number = library.number
        self._channels = library.connection.channels
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._unsettled: set[int] = set()  # the numbers of deliveries
        self._acknowledged: list[int] = []  # in this turn of the loop

    @property
    def is_open(self) -> bool:
        """Whether the broker takes frames on this channel.

        aiormq counts a channel as open for some turns of the loop after it has agreed to close it.
        The broker ends the connection for a frame on a channel that is closed.
        """
        library = self.library
        is_known = self._channels.get(self.number) is library
        return is_known and not library.is_closed and not self._socket.writer.is_closing()

    def write(self, data: bytes) -> None:
        """Send whole frames of this channel. Raises Unavailable when it is closed."""
        if not self.is_open:
            raise Unavailable("the channel is closed")
        self._socket.write(data)

    def track(self, number: int) -> None:
        """Note a delivery that is to be settled by `ack` or `nack`."""
        self._unsettled.add(number)

    def ack(self, number: int) -> None:
        """Acknowledge a delivery, together with others of this turn of the loop.

        Each frame costs the broker an entry in the log of a quorum queue. Raises Unavailable.
        """
        if not self.is_open:
            raise Unavailable("the channel is closed")
        self._unsettled.discard(number)
        if not self._acknowledged:
            self._loop.call_soon(self.send_acks)
        self._acknowledged.append(number)

    def nack(self, number: int, *, requeue: bool) -> None:
        """Return a delivery to its queue, or reject it. Raises Unavailable."""
        self.write(frames.nack(self.number, number, requeue=requeue))
        self._unsettled.discard(number)

    def send_acks(self) -> None:
        """Send the acknowledgements of this turn; those below all unsettled ones in one frame."""
        numbers, self._acknowledged = sorted(self._acknowledged), []
        if not numbers or not self.is_open:  # then all of them come again
            return
        count = 0
        if len(numbers) > 1:
            count = bisect(numbers, min(self._unsettled, default=sys.maxsize))
        if count:
            self._socket.write(frames.ack(self.number, numbers[count - 1], multiple=True))
        for number in numbers[count:]:
            self._socket.write(frames.ack(self.number, number))

    def on(self, method: bytes, call: OnMethod) -> None:
        """Call a function for each method of a kind, see `BrokerStream`."""
        self._socket.stream.on(self.number, method, call)

    async def consume(self, queue: str, call: OnMethod, *, no_ack: bool = False) -> str:
        """Start a consumer, the only one of its channel; return its tag. Raises as aiormq does."""
        self.on(DELIVER, call)
        consuming = await self.library.basic_consume(queue, _unused, no_ack=no_ack)
        return consuming.consumer_tag or ""

    async def writable(self) -> None:
        """Wait while the broker is short of memory or disk, or does not keep up.

        Raises ConnectionError when the connection is lost meanwhile.
        """
        await self.library.connection.ready()
        await self._socket.writable()


async def _unused(_: DeliveredMessage) -> None:
    """Stand for the callback that aiormq asks for: it reads no delivery."""
