"""The SMTP server for reports, by real connections: which mail it takes, and its limits."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.inbound.reports.door import (
    MAX_RECIPIENTS,
    UNKNOWN,
    DoorAddress,
    DoorHandler,
    DoorLimits,
    listening,
)
from services.inbound.reports.kept import KeptMails
from services.inbound.reports.reading import MAX_READ_OCTETS, MailKind, Reading, read
from services.inbound.reports.receiving import ACCEPTED, AWAY, ReportReceiver
from shared.contracts import Contract, EmailFound, ReportBounced
from shared.errors import NoAnswer, Unavailable
from shared.return_path import VALID_DAYS
from tests.inbound.reports.mails import MAIL, NOW, PATHS, a_path, arf, dsn
from tests.waiting import PATIENCE_SECONDS, until

T = TypeVar("T")
LIMITS = DoorLimits(1_000_000, 50, 40, idle_seconds=60, session_seconds=60)


@dataclass
class World:
    """A broker with a ledger that knows one mail, or fails; and the mails that were read."""

    published: list[Contract] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    failure: Exception | None = None
    hold: asyncio.Event | None = None
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
        return EmailFound(id=question.id, email=MAIL)

    async def read(self, content: bytes) -> Reading:
        """Read a mail."""
        self.contents.append(content)
        return read(content)


@asynccontextmanager
async def serving(
    folder: Path, limits: DoorLimits = LIMITS, now: datetime = NOW, drain: float = 5
) -> AsyncIterator[World]:
    """Open a door for the length of the block."""
    world = World()
    kept = KeptMails(folder / "kept", 10, 60)
    receiver = ReportReceiver(world, world.read, kept, PATHS, 5, lambda: now)
    handler = DoorHandler(receiver, PATHS, ["fbl@our.example"])
    address = DoorAddress("mx.our.example", "127.0.0.1", 0)
    async with listening(handler, address, limits, drain) as world.port:
        yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Open a door for one test."""
    async with serving(tmp_path) as opened:
        yield opened


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


async def talk(world: World, octets: bytes) -> bytes:
    """Send octets as they are, and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(octets)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()
    except ConnectionResetError:  # what was sent is not read any more
        return b"421"
    finally:
        writer.close()


def session(content: bytes, to: str = "") -> bytes:
    """Return the octets of a session in one group of commands."""
    begin = f"EHLO mx\r\nMAIL FROM:<>\r\nRCPT TO:<{to or a_path()}>\r\nDATA\r\n"
    return begin.encode() + content + b"\r\n.\r\nQUIT\r\n"


async def test_a_report_is_read_and_published(world: World) -> None:
    """A report to a return path, in letters of any case, is an event before the 250."""
    code, text = await called(world, given(dsn(), a_path().upper()))

    assert f"{code} {text.decode()}" == ACCEPTED
    [event] = world.published
    assert isinstance(event, ReportBounced)
    assert (event.email_id, event.recipient) == ("mail-1", MAIL.recipient)


@pytest.mark.parametrize(
    "to",
    [
        *("someone@bounce.our.example", "ann@example.org", "b-@bounce.our.example", "root"),
        a_path().replace("our", "their"),
        a_path()[:20] + ("b" if a_path()[20] == "a" else "a") + a_path()[21:],
        a_path(NOW - timedelta(days=VALID_DAYS + 1)),
        "abuse@our.example",
    ],
    ids=["other", "relay", "short", "local", "domain", "forged", "old", "abuse"],
)
async def test_nothing_else_is_taken(world: World, to: str) -> None:
    """A forged or old return path, another mailbox and another domain are unknown."""
    code, text = await called(world, given(dsn(), to))

    assert f"{code} {text.decode()}" == UNKNOWN
    assert world.published == []


@pytest.mark.parametrize("to", ["postmaster@bounce.our.example", "FBL@our.example"])
async def test_a_feedback_loop_has_an_address(world: World, to: str) -> None:
    """A complaint to an address of ours is about the mail whose return path is in it."""
    assert (await called(world, given(arf(), to)))[0] == 250
    assert len(world.published) == 1

    forged = a_path().replace("our", "their")
    assert (await called(world, given(arf(sender=forged), to)))[0] == 250
    assert len(world.published) == 1


@pytest.mark.parametrize("failure", [Unavailable("away"), NoAnswer("no answer")])
async def test_the_other_server_keeps_what_cannot_be_kept(world: World, failure: Exception) -> None:
    """Without the broker or the ledger the reply is temporary; the mail comes again."""
    world.failure = failure
    code, text = await called(world, given(dsn()))
    world.failure = None
    again = await called(world, given(dsn()))

    assert f"{code} {text.decode()}" == AWAY
    assert again[0] == 250
    assert len(world.published) == 1


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"Subject: x\n\r\nhello", b"550 5.6.0 "),
        (b"Subject: x\r\n\r\nhel\0lo", b"550 5.6.0 "),
        (b"Subject: x\r\n\r\n\n.\r\nMAIL FROM:<>\r\n", b"550 5.6.0 "),
        (b"Subject: x\r\n\r\n" + b"y" * 40_000, b"500 5.5.2 "),
        (b"Subject: x\r\n\r\n" + b"yyyyyyyyyyyyyyy\r\n" * 70_000, b"552 5.3.4 "),
    ],
    ids=["bare LF", "NUL", "smuggled", "long line", "too big"],
)
async def test_what_no_server_sends_is_refused(world: World, content: bytes, reply: bytes) -> None:
    """A bare line end, a NUL, a line and a mail that are too long are refused at the final dot."""
    answer = await talk(world, session(content))

    assert reply in answer
    assert b"221 " in answer
    assert world.contents == []


async def test_only_the_beginning_of_a_mail_is_kept(world: World) -> None:
    """Of a large mail the first octets are read, without dot stuffing; the rest is dropped."""
    large = b"Subject: x\r\n\r\n..dot\r\n" + b"0123456789\r\n" * 80_000
    answer = await talk(world, session(large))

    [content] = world.contents
    assert b"250 2.0.0 " in answer
    assert content.startswith(b"Subject: x\r\n\r\n.dot\r\n")
    assert MAX_READ_OCTETS - 10 <= len(content) <= MAX_READ_OCTETS


async def test_commands_in_a_group(world: World) -> None:
    """A server may send all commands and mails at once (RFC 2920)."""
    one = session(dsn().replace(b"\r\n.", b"\r\n.."))
    answer = await talk(world, one.replace(b"QUIT\r\n", b"") + one)

    assert answer.count(b"250 2.0.0 ") == 2


async def test_too_many_connections(tmp_path: Path) -> None:
    """Beyond the limit of an address the next connection is told so and closed."""
    limits = DoorLimits(1_000_000, 50, 2, idle_seconds=60, session_seconds=60)
    async with serving(tmp_path, limits) as world:
        first = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(2)]
        greetings = [await reader.readline() for reader, _ in first]
        refused = await talk(world, b"")
        first[0][1].close()
        answer = b"421"
        while answer.startswith(b"421"):
            answer = await talk(world, b"QUIT\r\n")
        first[1][1].close()

    assert [each[:4] for each in greetings] == [b"220 ", b"220 "]
    assert refused.startswith(b"421")
    assert answer.startswith(b"220 ")


@pytest.mark.parametrize("limits", [{"idle_seconds": 0.05}, {"session_seconds": 0.05}])
async def test_a_slow_connection_is_closed(tmp_path: Path, limits: dict[str, Any]) -> None:
    """A connection that says nothing, or takes too long, is closed."""
    values: dict[str, Any] = {"idle_seconds": 60, "session_seconds": 60} | limits
    async with serving(tmp_path, DoorLimits(1_000_000, 50, 40, **values)) as world:
        answer = await talk(world, b"EHLO mx\r\n")

    assert b"250 " in answer


async def test_too_many_recipients(world: World) -> None:
    """A report has one recipient; of many the others are put off."""
    to = [a_path()] * (MAX_RECIPIENTS + 1)

    assert (await called(world, given(dsn(), *to)))[0] == 452


async def test_a_mail_that_was_received_whole_is_answered_at_the_end(tmp_path: Path) -> None:
    """At a shutdown the reply to a whole mail is still sent, and others are closed at once."""
    async with serving(tmp_path) as world:
        world.hold = asyncio.Event()
        idle, writer = await asyncio.open_connection("127.0.0.1", world.port)
        await idle.readline()
        sending = asyncio.create_task(called(world, given(dsn())))
        await until(partial(arrived, world))
        asyncio.get_running_loop().call_later(0.01, world.hold.set)
    writer.close()

    assert (await sending)[0] == 250
    assert len(world.published) == 1


async def test_a_mail_that_is_no_report_is_kept(world: World, tmp_path: Path) -> None:
    """A mail that is not understood is kept for a person, and changes nothing."""
    note = b"From: ann@example.org\r\nSubject: hi\r\n\r\nHello!\r\n"
    assert (await called(world, given(note)))[0] == 250
    vacation = b"From: ann@example.org\r\nAuto-Submitted: auto-replied\r\n\r\nAway\r\n"
    assert (await called(world, given(vacation)))[0] == 250

    [file] = (tmp_path / "kept").iterdir()
    assert file.read_bytes() == note
    assert file.stat().st_mode & 0o077 == 0
    assert read(vacation).kind is MailKind.AUTOMATIC
    assert world.published == []
