"""A door for reports with a broker and a ledger that know one mail, and its clients."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from services.inbound.listening import drained, listening
from services.inbound.reports.door import ReportConnection, ReportDoor
from services.inbound.reports.kept import KeptMails
from services.inbound.reports.reading import Reading, read
from services.inbound.reports.receiving import ReportReceiver
from services.inbound.smtp import SmtpTerms
from shared.contracts import Contract, EmailFound
from shared.errors import NoAnswer, Unavailable
from shared.runtime.http_connections import Connections, Limits
from tests.inbound.doors import Talk
from tests.inbound.reports.mails import MAIL, NOW, PATHS, a_path
from tests.waiting import PATIENCE_SECONDS

T = TypeVar("T")
LIMITS = Limits(50, 40)
TERMS = SmtpTerms("mx.our.example", None, False, 1_000_000, 60, 60, 60)  # noqa: FBT003 -- no TLS


@dataclass
class World:
    """A broker with a ledger that knows one mail, or fails; and the mails that were read."""

    published: list[Contract] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    failure: Exception | None = None
    hold: asyncio.Event | None = None
    is_recorded: bool = True  # the mail, by the ledger
    port: int = 0

    async def publish(self, message: Contract) -> None:
        """Keep an event."""
        if isinstance(self.failure, Unavailable):
            raise self.failure
        self.published.append(message)

    async def ask(self, question: Contract, within: float) -> Contract:
        """Answer with the mail."""
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(self.failure, NoAnswer):
            raise self.failure
        assert within
        return EmailFound(id=question.id, email=MAIL if self.is_recorded else None)

    async def read(self, content: bytes) -> Reading:
        """Read a mail."""
        self.contents.append(content)
        return read(content)


@asynccontextmanager
async def serving(  # noqa: PLR0913 -- the terms of the door
    folder: Path,
    *,
    limits: Limits = LIMITS,
    now: datetime = NOW,
    drain: float = 5,
    terms: SmtpTerms = TERMS,
    publishes_others: bool = False,
) -> AsyncIterator[World]:
    """Open a door for the length of the block."""
    world = World()
    kept = KeptMails(folder / "kept", 10, 60)
    receiver = ReportReceiver(world, world.read, kept, PATHS, 5, lambda: now, publishes_others)
    door = ReportDoor(receiver, ["fbl@our.example"])
    make = partial(ReportConnection, terms, Connections(limits), door)
    async with drained(door.opened, drain), listening(make, "127.0.0.1", 0) as world.port:
        yield world


async def called(world: World, work: Callable[[smtplib.SMTP], T]) -> T:
    """Run a client of Python's own library in a thread."""

    def call() -> T:
        with smtplib.SMTP("127.0.0.1", world.port, timeout=PATIENCE_SECONDS) as client:
            return work(client)

    return await asyncio.to_thread(call)


def given(content: bytes, *to: str) -> Callable[[smtplib.SMTP], tuple[int, bytes]]:
    """Return the work of a client that sends a report, as a server does."""

    def work(client: smtplib.SMTP) -> tuple[int, bytes]:
        client.ehlo("mx.example")
        client.mail("")
        for each in to or (a_path(),):
            refused = client.rcpt(each)
            if refused[0] != 250:
                return refused
        return client.data(content)

    return work


async def arrived(world: World) -> bool:
    """Return whether a mail was received whole."""
    return bool(world.contents)


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Talk]:
    """Open a connection and greet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        talk = Talk(reader, writer)
        assert (await talk.reply()).startswith("220 ")
        assert await talk.say(b"EHLO mx") == ["250"]
        yield talk
    finally:
        writer.transport.abort()


def envelope(*to: str) -> list[bytes]:
    """Return the commands of a report before DATA."""
    return [b"MAIL FROM:<>", *(f"RCPT TO:<{each}>".encode() for each in to or (a_path(),))]
