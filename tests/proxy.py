"""A TCP proxy on loopback whose connections a test can cut."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

# Sees bytes before they are forwarded, and whether they go to the target. An OSError that it raises
# drops them and ends their connection.
Watch = Callable[[bytes, bool], None]


class Proxy:
    """Forwards each connection to one port until `cut`, and nothing while it is held."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.watch: Watch = lambda _data, _to_target: None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallowing: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(
        cls, target: int, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> AsyncIterator[Self]:
        """Listen for the length of the block, on a free port if `port` is 0.

        With `tls` for encrypted streams.
        """
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", port, ssl=tls)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.let_go()
            proxy.cut()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection that is open now, and accept new ones."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """Lose all that comes over the connections that are open now, as a firewall does."""
        self._swallowing |= self._writers

    def hold(self) -> None:
        """Forward nothing from now on, like a stalled network."""
        self._flows.clear()

    def let_go(self) -> None:
        """Forward the held bytes and all that follow."""
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink, to_target=sink is far_writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, to_target: bool
    ) -> None:
        # What is written to an end that was closed meanwhile is a RuntimeError of uvloop's.
        with suppress(OSError, RuntimeError):
            while data := await source.read(65536):
                await self._flows.wait()
                if sink in self._swallowing:
                    continue
                self.watch(data, to_target)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
        self._writers.discard(sink)
