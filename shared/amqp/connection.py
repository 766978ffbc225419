"""One connection to the broker, from the first byte to the last."""

import asyncio
from typing import Any, Self, cast

from pamqp import commands
from pamqp.base import Frame
from yarl import URL

from shared.amqp import handshake, wire
from shared.amqp.channel import Channel
from shared.amqp.errors import Closed, LoginRefused, VhostRefused

# A dead peer is noticed after so many intervals without a sign of it.
PATIENCE_INTERVALS = 3
CLOSE_SECONDS = 5.0  # for the broker's answer to a farewell
TOGETHER = 32  # messages that are sent at once
TURN_BYTES = 32 << 10  # that are read at once; a hundred small messages, a millisecond
# That wait for their turn; with more the broker waits: it sends faster than large bodies are read.
MAX_INCOMING_BYTES = 4 << 20


class Connection(asyncio.Protocol):
    """Opened by `open`. It does not come back by itself: see `shared.link`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._cutter = wire.Cutter()
        self._channels: dict[int, Channel] = {}
        self._answer: asyncio.Future[Frame] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._incoming = bytearray()  # what waits for its turn
        self._outgoing: list[bytes] = []
        self._heard = self._loop.time()
        self._full = self._blocked = self._paused = False
        self._transport: asyncio.Transport
        self._most_channels = 0
        self.largest_frame = wire.LARGEST_FRAME
        self.lost = asyncio.Event()
        self.reason = Closed("the connection was lost")
        self.writable = asyncio.Event()  # cleared while the broker takes no more
        self.writable.set()

    @classmethod
    async def open(cls, url: URL, name: str, heartbeat: int) -> Self:
        """Connect and log in; tell each other every `heartbeat` seconds to be alive.

        Raises OSError, Closed, LoginRefused. Without a limit of time: the caller's to set.
        """
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            cls, url.host or "localhost", handshake.port(url), ssl=handshake.tls(url)
        )
        try:
            await connection.shake_hands(url, name, heartbeat)
        except BaseException:
            transport.abort()
            raise
        return connection

    async def channel(self, *, confirms: bool = False, prefetch: int = 0) -> Channel:
        """Open a channel. Raises Closed, also when all are in use."""
        numbers = range(1, self._most_channels + 1)
        number = next((each for each in numbers if each not in self._channels), None)
        if number is None:
            raise Closed(f"all {self._most_channels} channels are in use")
        channel = self._channels[number] = Channel(self, number)
        if self.lost.is_set():
            channel.fail(self.reason)
        await channel.call(commands.Channel.Open())
        if confirms:
            await channel.call(commands.Confirm.Select())
        if prefetch:
            await channel.call(commands.Basic.Qos(prefetch_count=prefetch))
        return channel

    async def close(self) -> None:
        """Take leave of the broker, for at most CLOSE_SECONDS."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._call(commands.Connection.Close(200, "", 0, 0))
        except (Closed, TimeoutError):
            pass  # it was quicker, or is away
        finally:
            self._transport.abort()

    def write(self, data: bytes) -> None:
        """Send frames, together with some others of this turn of the loop.

        A system call for each would cost more than all the rest that is done for a message. What
        cannot be sent is lost with the connection.
        """
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(data)
        if len(self._outgoing) >= TOGETHER:
            # A turn may be long, as of a gateway with many callers: the others begin meanwhile.
            self._flush()

    def forget(self, number: int) -> None:
        """Free the number of a channel."""
        self._channels.pop(number, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the stream."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all that waits."""
        if self.lost.is_set():
            return
        # Among the last words may be confirms.
        while self._incoming:
            self._read_on()
        if error is not None:
            self.reason = Closed(f"the connection was lost: {error}")
        self._fail(self.reason)

    def data_received(self, data: bytes) -> None:
        """Take what has come, frame by frame, in turns with all else that the loop has to do."""
        self._heard = self._loop.time()
        waits = bool(self._incoming)
        self._incoming += data
        if len(self._incoming) > MAX_INCOMING_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if not waits:
            self._read_on()

    def pause_writing(self) -> None:
        """Hold publishers back: the broker does not keep up."""
        self._full = True
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let publishers go on."""
        self._full = False
        self._let_go()

    async def shake_hands(self, url: URL, name: str, heartbeat: int) -> None:
        """Log in, for `open`."""
        await self._next(wire.PROTOCOL)
        try:
            offered = await self._call(handshake.start(url, name))
        except Closed as error:
            if error.code == handshake.ACCESS_REFUSED:
                raise LoginRefused(str(error)) from None
            raise
        if not isinstance(offered, commands.Connection.Tune):
            raise Closed(f"{offered.name} in place of limits")
        agreed = handshake.tune(offered, heartbeat)
        self.largest_frame = agreed.frame_max
        self._most_channels = agreed.channel_max
        self.write(wire.method(agreed, 0))
        await self._enter(url)
        self._tick(heartbeat)

    async def _enter(self, url: URL) -> None:
        """Open the virtual host. Raises VhostRefused where it would be refused again."""
        try:
            await self._call(handshake.open_(url))
        except Closed as error:
            # A limit of connections has the same code, and others may close theirs.
            if error.code == handshake.NOT_ALLOWED and "limit" not in str(error):
                raise VhostRefused(str(error)) from None
            raise

    async def _call(self, method: Frame) -> Any:  # noqa: ANN401 -- each has its own kind of answer
        return await self._next(wire.method(method, 0))

    async def _next(self, data: bytes) -> Frame:
        """Send something and give the next method that concerns the whole connection."""
        self._answer = self._loop.create_future()
        if self.lost.is_set():
            raise Closed(str(self.reason), self.reason.code)
        self.write(data)
        return await self._answer

    def _read_on(self) -> None:
        piece = bytes(self._incoming[:TURN_BYTES])
        del self._incoming[:TURN_BYTES]
        try:
            for kind, number, payload in self._cutter.feed(piece):
                self._take(kind, number, payload)
        except Closed as error:
            self._abort(error)
        if self._paused and len(self._incoming) <= MAX_INCOMING_BYTES // 2:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        if self._incoming:
            self._loop.call_soon(self._read_on)

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if number:
            channel = self._channels.get(number)
            if channel is not None:
                channel.take(kind, payload)
        elif kind == wire.METHOD:
            self._take_method(wire.read_method(payload))

    def _take_method(self, method: Frame) -> None:
        match method:
            case commands.Connection.Close():
                self.write(wire.method(commands.Connection.CloseOk(), 0))
                self._fail(Closed(method.reply_text, method.reply_code or 0))
                self._flush()
                # Not `abort`: the answer may still be on its way out.
                self._transport.close()
            case commands.Connection.Blocked():
                # Memory or disk is short; what we send now waits unread, and confirms with it.
                self._blocked = True
                self.writable.clear()
            case commands.Connection.Unblocked():
                self._blocked = False
                self._let_go()
            case _ if self._answer is not None and not self._answer.done():
                self._answer.set_result(method)

    def _flush(self) -> None:
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _let_go(self) -> None:
        if not self._full and not self._blocked:
            self.writable.set()

    def _tick(self, heartbeat: int) -> None:
        """Say that we live, and see that the broker does."""
        if self._loop.time() - self._heard > PATIENCE_INTERVALS * heartbeat:
            self._abort(Closed(f"no sign of the broker for {PATIENCE_INTERVALS * heartbeat} s"))
            return
        self.write(wire.HEARTBEAT_FRAME)
        self._ticker = self._loop.call_later(heartbeat / 2, self._tick, heartbeat)

    def _abort(self, reason: Closed) -> None:
        """Hang up at once: with one who does not read, leaving in good order takes for ever."""
        self._fail(reason)
        self._transport.abort()

    def _fail(self, reason: Closed) -> None:
        if self.lost.is_set():
            return
        self.reason = reason
        self._incoming.clear()
        self.lost.set()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Closed(str(reason), reason.code))
        for channel in list(self._channels.values()):
            channel.fail(reason)
        # Who waits to write shall learn of the loss.
        self.writable.set()
