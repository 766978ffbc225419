"""A TCP proxy that passes data on so many seconds later, as a long network does.

In a process of its own; `PORT TARGET SECONDS` are its arguments. Only what is sent takes time:
a connection is there at once. There is no limit on what is under way, as mails are small.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import uvloop

from benchmarks.bench import Bench
from benchmarks.sink import Sink
from ops import ports

_BACKLOG = 256


class ProxyEnd(asyncio.Protocol):
    """One end of a connection; what comes in here goes out at the other end, later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # By this, and not by the timers, what came first goes first: two may be due at once.
        self._under_way: deque[bytes] = deque()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)

    def lead_to(self, other: "ProxyEnd") -> None:
        """Set the end at which data go out."""
        self._other = other

    def data_received(self, data: bytes) -> None:
        """Keep it until it is due."""
        self._under_way.append(data)
        asyncio.get_running_loop().call_later(self._seconds, self._arrive)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end as well, after all that is under way."""
        del exc
        self.data_received(b"")

    def _arrive(self) -> None:
        data, transport = self._under_way.popleft(), self._other.transport
        if transport is None:
            return
        if data:
            transport.write(data)
        else:
            transport.close()


class NearProxyEnd(ProxyEnd):
    """The end that was connected to; it connects the other one to `target`."""

    def __init__(self, target: int, seconds: float) -> None:
        super().__init__(seconds)
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read only when there is another end."""
        super().connection_made(transport)
        ours = cast("asyncio.Transport", transport)
        ours.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect(ours))

    async def _connect(self, ours: asyncio.Transport) -> None:
        far = ProxyEnd(self._seconds)
        far.lead_to(self)
        self.lead_to(far)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: far, "127.0.0.1", self._target)
        except OSError:
            ours.abort()
        else:
            ours.resume_reading()


async def listen(port: int, target: int, seconds: float) -> asyncio.Server:
    """Serve on a port of 127.0.0.1, or on any if it is 0, what goes to the port `target`."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: NearProxyEnd(target, seconds), "127.0.0.1", port, backlog=_BACKLOG
    )


@asynccontextmanager
async def moved(bench: Bench, served: Sink, seconds: float) -> AsyncIterator[Sink]:
    """Run a proxy; the value is the same sink so many seconds away. Raises BenchError."""
    [port] = ports.unused(1)
    command = [sys.executable, "-m", "benchmarks.distance", *map(str, (port, served.port, seconds))]
    async with bench.running("distance", command, {}) as process:
        await bench.listening("distance", process, port)
        yield replace(served, port=port)


async def _serve(port: int, target: int, seconds: float) -> None:
    await (await listen(port, target, seconds)).serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
