"""A channel, and the socket to which its publishes and acknowledgements are written."""

import asyncio
import ssl
from typing import Any

from aiormq import TransportFactory
from aiormq.channel import Channel as LibraryChannel
from yarl import URL

from shared.errors import Unavailable

MAX_BUFFERED_BYTES = 65_536  # that wait for the socket while more may be published
MAX_FRAMES_TOGETHER = 32  # messages that are sent by one system call


class Socket(TransportFactory):
    """Opens the socket of a connection for aiormq, and lets frames be written to it at once.

    aiormq's own way to write, by a queue and a task for each frame, takes three times as long as
    all else that is done for a message.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.StreamWriter
        self._frames: list[bytes] = []
        self._size = 0

    async def create(
        self,
        url: URL,
        **_: Any,  # noqa: ANN401 -- aiormq's
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, for aiormq."""
        reader, self._writer = await asyncio.open_connection(url.host, url.port, ssl=self._context)
        return reader, self._writer

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._writer.is_closing()

    def write(self, frames: bytes) -> None:
        """Send whole frames, together with others of this turn of the loop.

        A system call for each would cost more than all else that is done for a message.
        """
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append(frames)
        self._size += len(frames)
        if len(self._frames) >= MAX_FRAMES_TOGETHER or self._size > MAX_BUFFERED_BYTES:
            self._flush()

    async def writable(self) -> None:
        """Wait while the broker does not keep up. Raises ConnectionError when it is lost."""
        await self._writer.drain()
        while self._writer.transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            await self._writer.drain()  # others, which waited too, have written since

    def _flush(self) -> None:
        data = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        if data and not self.is_closed:
            self._writer.write(data)


class Channel:
    """A channel of aiormq, and the socket to which its frames can be written.

    Methods with an answer go through `library`; publishes and acknowledgements, which have none,
    go to the socket.
    """

    def __init__(self, library: LibraryChannel, socket: Socket) -> None:
        self.library = library
        self.number = library.number
        self._channels = library.connection.channels
        self._socket = socket

    @property
    def is_open(self) -> bool:
        """Whether the broker takes frames on this channel.

        aiormq counts a channel as open for some turns of the loop after it has agreed to close it.
        The broker ends the connection for a frame on a channel that is closed.
        """
        library = self.library
        is_known = self._channels.get(self.number) is library
        return is_known and not library.is_closed and not self._socket.is_closed

    def write(self, frames: bytes) -> None:
        """Send whole frames of this channel. Raises Unavailable when it is closed."""
        if not self.is_open:
            raise Unavailable("the channel is closed")
        self._socket.write(frames)

    async def writable(self) -> None:
        """Wait while the broker is short of memory or disk, or does not keep up.

        Raises ConnectionError when the connection is lost meanwhile.
        """
        await self.library.connection.ready()
        await self._socket.writable()
