"""The SMTP server that all mail goes to, near or far: Debian's `smtp-sink`, or one of our own.

A sink slower than the client would be what is measured. `smtp-sink` is made for measuring clients,
in C. Run as a module with a PORT, this is our own: an SMTP server that keeps nothing. With PORT
TARGET SECONDS it is a proxy that passes data on to a port so many seconds later, as a long network
does. Only what is sent takes time: a connection is there at once. There is no limit on what is
under way, as mails are small.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.bench import Bench, BenchError
from ops import ports

_SMTP_SINK = Path("/usr/sbin/smtp-sink")
_STALL_SECONDS = 30.0  # without a mail, the start of a client included
_POLL_SECONDS = 0.02  # of the counter
_LISTEN_BACKLOG = 256
_COUNTED = re.compile(rb"mesg=(\d+)")
_COUNTER_TAIL_BYTES = 200  # of the counter's file: more than one line
_END_OF_MAIL = b"\r\n.\r\n"
_COMMAND = re.compile(rb"[^\r\n]*\r\n")
_GREETING = b"220 discard\r\n"
_OK = b"250 2.0.0 Ok\r\n"
_REPLIES = {
    b"EHLO": b"250-discard\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}


@dataclass(frozen=True, slots=True)
class SinkProgram:
    """An SMTP server to run, and its command, in which `{port}` stands for its port."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink; it counts the mails that it took to their end, since it started."""

    name: str
    port: int
    counter: Path

    def count(self) -> int:
        """Return how many mails there were."""
        with self.counter.open("rb") as file:
            file.seek(max(0, self.counter.stat().st_size - _COUNTER_TAIL_BYTES))
            found = _COUNTED.findall(file.read())
        return int(found[-1]) if found else 0

    def expect(self, count: int) -> None:
        """Check that there were as many and no more. Raises BenchError."""
        if self.count() != count:
            raise BenchError(f"{self.count()} mails at {self.name} instead of {count}")

    async def reach(self, count: int, client: Process) -> float:
        """Wait until it has counted as far as that, while `client` runs and mails come in.

        Return how many came a second, from the last look before the first of them. Raises
        BenchError.
        """
        loop = asyncio.get_running_loop()
        begun = last = loop.time()
        start = seen = self.count()
        while seen < count:
            if client.returncode is not None or loop.time() > last + _STALL_SECONDS:
                raise BenchError(f"{count - seen} mails did not come: the client stopped")
            if seen == start:
                begun = loop.time()
            await asyncio.sleep(_POLL_SECONDS)
            before, seen = seen, self.count()
            if seen > before:
                last = loop.time()
        return (seen - start) / (last - begun) if seen > start else 0.0


@asynccontextmanager
async def serving(bench: Bench, program: SinkProgram) -> AsyncIterator[Sink]:
    """Run a sink until the block is left. Raises BenchError when it does not start."""
    [port] = ports.unused(1)
    command = [each.format(port=port) for each in program.command]
    async with bench.running("sink", command, {}) as process:
        await bench.listening("sink", process, port)
        yield Sink(program.name, port, bench.output("sink"))


@asynccontextmanager
async def moved(bench: Bench, served: Sink, seconds: float) -> AsyncIterator[Sink]:
    """Run a proxy; the value is the same sink so many seconds away. Raises BenchError."""
    [port] = ports.unused(1)
    command = [sys.executable, "-m", "benchmarks.sink", *map(str, (port, served.port, seconds))]
    async with bench.running("distance", command, {}) as process:
        await bench.listening("distance", process, port)
        yield replace(served, port=port)


def best() -> SinkProgram:
    """Return `smtp-sink` if it is installed, else our own."""
    if not _SMTP_SINK.exists():
        return own()
    # It refuses to serve as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [str(_SMTP_SINK), "-c", *user, "127.0.0.1:{port}", str(_LISTEN_BACKLOG)]
    return SinkProgram("smtp-sink of postfix", command)


def own() -> SinkProgram:
    """Return the sink that needs nothing."""
    return SinkProgram(
        "our own sink in Python", [sys.executable, "-m", "benchmarks.sink", "{port}"]
    )


class Discard(asyncio.Protocol):
    """One connection to our own sink. The mails of all are counted on standard output.

    It looks for the end of a mail in what has arrived and at nothing else, so it costs little
    beside the client that is measured.
    """

    mails = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""
        self._in_mail = False
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete."""
        self._rest += data
        while self._mail_ended() if self._in_mail else self._commanded():
            pass

    def named(self, recipient: bytes) -> None:
        """Receive the line that names a recipient."""

    def ended(self) -> None:
        """Count a mail that has come to its end."""
        Discard.mails += 1
        sys.stdout.write(f"mesg={Discard.mails}\r")
        sys.stdout.flush()

    def _mail_ended(self) -> bool:
        end = self._rest.find(_END_OF_MAIL)
        if end < 0:
            return False
        self._rest = self._rest[end + len(_END_OF_MAIL) :]
        self._in_mail = False
        self.ended()
        self._transport.write(_OK)
        return True

    def _commanded(self) -> bool:
        line = _COMMAND.match(self._rest)
        if line is None:
            return False
        verb = line[0][:4].upper()
        self._transport.write(_REPLIES.get(verb, _OK))
        # The line's end stays, as the one before a dot that ends an empty mail.
        self._rest = self._rest[line.end() - 2 if verb == b"DATA" else line.end() :]
        self._in_mail = verb == b"DATA"
        if verb == b"RCPT":
            self.named(line[0])
        if verb == b"QUIT":
            self._transport.close()
        return True


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
        lambda: NearProxyEnd(target, seconds), "127.0.0.1", port, backlog=_LISTEN_BACKLOG
    )


async def _serve(port: int, target: int = 0, seconds: float = 0.0) -> None:
    if target:
        server = await listen(port, target, seconds)
    else:
        server = await asyncio.get_running_loop().create_server(Discard, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(*map(int, sys.argv[1:3]), *map(float, sys.argv[3:])))
