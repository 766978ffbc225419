"""An SMTP server that sends any reply of a test, right or wrong, byte by byte."""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Self

POLITE = {
    "CONNECT": b"220 scripted.invalid\r\n",
    "EHLO": b"250 scripted.invalid\r\n",
    "HELO": b"250 scripted.invalid\r\n",
    "DATA": b"354 Go on\r\n",
    "QUIT": b"221 Bye\r\n",
}
CUT = b""  # no reply, the connection is closed
HANG = b"-"  # no reply, the connection stays
AND_CLOSE = b"\x00"  # behind a reply: the connection is closed after it
PIPELINING = {"EHLO": b"250-scripted.invalid\r\n250 PIPELINING\r\n"}
CHUNKING = {"EHLO": b"250-scripted.invalid\r\n250-PIPELINING\r\n250 CHUNKING\r\n"}


class Server(ABC):
    """A server on loopback that serves each connection in a task of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Serve on a free port for the length of the block, then cut all connections."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await listener.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until its end."""


class Scripted(Server):
    """A server with a reply to each verb, or to a whole line; `DOT` is the end of a mail.

    `LAST` is the end of a mail by BDAT, whose octets are kept in `chunks`.
    `CUT-BODY` closes the connection with the body unread; `IN-BODY` is said before it is read.
    With `FLUSH` what has been sent too early is thrown away, with `TRICKLE` each octet of a reply
    is a segment of its own.
    """

    def __init__(self, script: Mapping[str, bytes]) -> None:
        super().__init__()
        self.script = {**POLITE, **script}
        self.lines: list[bytes] = []
        self.content = b""  # of all mails, with the dots that stuffing has added
        self.chunks: list[bytes] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb = "CONNECT"
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answered(verb, writer):
                    if "CUT-BODY" in self.script and verb == "DATA":
                        return
                    verb = await self._next(verb, reader, writer)
        finally:
            writer.transport.abort()

    async def _next(
        self, verb: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        if verb == "DATA" and b"354" in self.script["DATA"]:
            if "IN-BODY" in self.script:
                await reader.read(1)
                said = self.script["IN-BODY"]
                writer.write(said.removesuffix(AND_CLOSE))
                if said.endswith(AND_CLOSE):
                    writer.close()
                await writer.wait_closed()
            while (octets := await reader.readuntil(b"\r\n")) != b".\r\n":
                self.content += octets
            return "DOT"
        self.lines.append(await reader.readuntil(b"\r\n"))
        if "FLUSH" in self.script:
            reader._buffer.clear()  # type: ignore[attr-defined] # that is the defect it plays
        line = self.lines[-1].decode().strip()
        if line.startswith("BDAT "):
            self.chunks.append(await reader.readexactly(int(line.split()[1])))
            return "LAST" if line.endswith("LAST") else "BDAT"
        return line if line in self.script else line.partition(" ")[0]

    async def _answered(self, verb: str, writer: asyncio.StreamWriter) -> bool:
        self.heard[verb] += 1
        answer = self.script.get(verb, b"250 OK\r\n")
        closes = answer.endswith(AND_CLOSE)
        answer = answer.removesuffix(AND_CLOSE) if closes else answer
        if answer != HANG:
            size = 1 if "TRICKLE" in self.script else max(1, len(answer))
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
        if closes:
            writer.close()
            await writer.wait_closed()
        return answer != CUT and verb != "QUIT" and not closes


def scripted(script: Mapping[str, bytes]) -> AbstractAsyncContextManager[Scripted]:
    """Serve on a free port for the length of the block."""
    return Scripted(script).listening()
