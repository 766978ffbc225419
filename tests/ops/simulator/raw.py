"""An SMTP client that sends and shows exact octets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.waiting import PATIENCE_SECONDS

BODY: Final = "Subject: Hello\r\n\r\nHello.\r\n"


class RawClient:
    """Sends lines and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hear(self) -> str:
        """Return one reply, its lines joined by newlines; empty at the end of the connection."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = await self._read_line()
            if not line:
                return "\n".join(lines)
            lines.append(line)
        return "\n".join(lines)

    def write(self, text: str) -> None:
        """Send text as it is."""
        self._writer.write(text.encode("utf-8", "surrogateescape"))

    async def say(self, line: str) -> str:
        """Send a line and return the reply."""
        self.write(f"{line}\r\n")
        return await self.hear()

    async def begin(self) -> str:
        """Read the greeting, send EHLO and return its reply."""
        await self.hear()
        return await self.say("EHLO client.example")

    async def mail(self, to: str, sender: str = "a@x.example", body: str = BODY) -> str:
        """Send a mail and return the first refusal, or the reply to its end."""
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
            reply = await self.say(line)
            if reply[:1] not in {"2", "3"}:
                return reply
        return await self.say(f"{body}.")

    def leave(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()

    async def _read_line(self) -> str:
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return ""
        return line.decode("utf-8", "replace").rstrip("\r\n")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    """Connect without sending anything, and close at the end."""
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        client.leave()


@asynccontextmanager
async def greeted(port: int) -> AsyncIterator[RawClient]:
    """Connect and send EHLO."""
    async with connected(port) as client:
        await client.begin()
        yield client
