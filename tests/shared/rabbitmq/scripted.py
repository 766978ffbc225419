"""A broker that says what a test wants it to say, in frames made and read by the library."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from pamqp import body, commands, frame, header, heartbeat
from pamqp.base import Frame
from pamqp.common import FieldTable
from yarl import URL

from tests.waiting import PATIENCE_SECONDS

PROTOCOL = b"AMQP\0\0\x09\x01"
CAPABILITIES = ("publisher_confirms", "basic.nack", "consumer_cancel_notify")
TUNE = (2047, 131_072, 60)  # RabbitMQ's own limits


class Peer:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *frames: Frame, channel: int = 0) -> None:
        """Send methods."""
        self.send(*(frame.marshal(each, channel) for each in frames))

    def send(self, *data: bytes) -> None:
        """Send any bytes."""
        self._writer.write(b"".join(data))

    async def hear(self, kind: type[Any]) -> Any:  # noqa: ANN401 -- pamqp has no type for all
        """Return the next frame but heartbeats, which must be of a kind."""
        while True:
            heard = await self.next()
            if not isinstance(heard, heartbeat.Heartbeat) or kind is heartbeat.Heartbeat:
                assert isinstance(heard, kind), heard
                return heard

    async def next(self) -> Any:  # noqa: ANN401 -- as above
        """Return the next frame. Raises EOFError or ConnectionError when the client has hung up."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            start = await self._reader.readexactly(7)
            rest = await self._reader.readexactly(int.from_bytes(start[3:], "big") + 1)
        return frame.unmarshal(start + rest)[2]

    async def ended(self) -> bool:
        """Wait until the client has hung up, whatever it still says."""
        try:
            while True:
                await self.next()
        except (EOFError, ConnectionError):
            return True

    async def start(self) -> commands.Connection.StartOk:
        """Answer the greeting and return the client's first method."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await self._reader.readexactly(8) == PROTOCOL
        properties: FieldTable = {"capabilities": dict.fromkeys(CAPABILITIES, True)}
        self.say(commands.Connection.Start(0, 9, properties, "PLAIN", "en_US"))
        started: commands.Connection.StartOk = await self.hear(commands.Connection.StartOk)
        return started

    async def tune(self) -> commands.Connection.Open:
        """Agree on limits and return what the client opens."""
        self.say(commands.Connection.Tune(*TUNE))
        await self.hear(commands.Connection.TuneOk)
        opened: commands.Connection.Open = await self.hear(commands.Connection.Open)
        return opened

    async def welcome(self) -> None:
        """Accept the login of the client."""
        await self.start()
        await self.tune()
        self.say(commands.Connection.OpenOk())

    async def answer(self, question: type[Any], answer: Frame) -> Any:  # noqa: ANN401 -- as above
        """Answer the client's next method on its first channel, and return the method."""
        asked = await self.hear(question)
        self.say(answer, channel=1)
        return asked

    async def open_channel(self) -> None:
        """Agree to a channel."""
        await self.answer(commands.Channel.Open, commands.Channel.OpenOk())

    async def open_publisher(self) -> None:
        """Agree to a channel that has confirms."""
        await self.open_channel()
        await self.answer(commands.Confirm.Select, commands.Confirm.SelectOk())

    async def published(self) -> header.ContentHeader:
        """Return the header of the next message of two bytes."""
        await self.hear(commands.Basic.Publish)
        found: header.ContentHeader = await self.hear(header.ContentHeader)
        await self.hear(body.ContentBody)
        return found

    def hang_up(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()

    def hold(self) -> None:
        """Read nothing any more."""
        cast("asyncio.Transport", self._writer.transport).pause_reading()

    def let_go(self) -> None:
        """Read again."""
        cast("asyncio.Transport", self._writer.transport).resume_reading()


class Script:
    """A listening broker; each connection is a peer for the test to speak with."""

    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.url = URL()

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncIterator[Self]:
        """Listen on a free port for the length of the block."""
        script, writers = cls(), []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            script._peers.put_nowait(Peer(reader, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        script.url = URL(f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        try:
            yield script
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()

    async def peer(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._peers.get()
