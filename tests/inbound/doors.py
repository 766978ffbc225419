"""A submission door without a gateway, and a client that speaks SMTP word by word."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import trustme

from ops.stack.settings import certificate
from services.inbound.smtp import SmtpTerms
from services.inbound.submission.connection import SubmissionConnection, SubmissionDoor
from services.inbound.submission.handover import AcceptanceRules
from services.inbound.submission.limits import LeakyBuckets, MailBudget
from services.inbound.submission.logins import Logins
from shared.contracts import (
    AuthenticateClient,
    AuthenticatedClient,
    Category,
    ClientAuthenticated,
    Contract,
    SendEmail,
    decode,
    mime,
)
from shared.delivery import Publishing
from shared.errors import Unavailable
from shared.runtime.http_connections import Connections, Limits
from tests.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
KEY = "right"
UNLIMITED = Limits()
SHOP = AuthenticatedClient(id="shop", senders=("@shop.example",), scopes=("send",))
MAIL = (
    b"From: Ann <ann@shop.example>\r\nTo: bob@x.example\r\nSubject: Hi\r\nDate: Sun, 29 Nov 2026"
    b" 12:00:00 +0000\r\nMessage-ID: <1@shop.example>\r\n\r\nHello\r\n"
)
ENVELOPE = (b"MAIL FROM:<ann@shop.example>", b"RCPT TO:<bob@x.example>")


class Clients:
    """A gateway: it knows one client, whose key is KEY, until it is `away`."""

    def __init__(self, client: AuthenticatedClient | None = SHOP) -> None:
        self.client = client
        self.is_away = False
        self.asked: list[AuthenticateClient] = []

    async def ask(self, question: Contract) -> Contract:
        """Answer a question."""
        assert isinstance(question, AuthenticateClient)
        self.asked.append(question)
        if self.is_away:
            raise Unavailable("away")
        is_right = self.client and (question.client, question.key) == (self.client.id, KEY)
        return ClientAuthenticated(id=question.id, client=self.client if is_right else None)


@dataclass
class Door:
    """A door that is open, and the commands that it has published."""

    context: ssl.SSLContext
    clients: Clients
    port: int = 0
    tls_port: int = 0
    commands: list[SendEmail] = field(default_factory=list)
    is_full: bool = False
    held: asyncio.Event | None = None  # until it is set, no confirm comes

    async def publish(self, item: Publishing) -> None:
        """Keep a command, as the broker does before its confirm."""
        if self.is_full:
            raise Unavailable("full")
        command = decode(item.type, item.body)
        assert isinstance(command, SendEmail)
        self.commands.append(command)
        if self.held is not None:
            await self.held.wait()

    @property
    def contents(self) -> list[bytes]:
        """The mails of the commands."""
        return [mime.decode(each.mime or "") for each in self.commands]

    @asynccontextmanager
    async def talk(self) -> AsyncIterator["Talk"]:
        """Open a connection over TLS."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.tls_port, ssl=self.context)
        talk = Talk(reader, writer)
        try:
            assert (await talk.reply()).startswith("220 ")
            yield talk
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def logged_in(self) -> AsyncIterator["Talk"]:
        """Open a connection over TLS and log in."""
        async with self.talk() as talk:
            assert await talk.say(b"EHLO me", plain()) == ["250", "235 2.7.0"]
            yield talk


@dataclass
class Talk:
    """The client's side of a session."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def reply(self) -> str:
        """Return the next reply, all of its lines; empty at the end of the connection."""
        lines = list[str]()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := (await self.reader.readline()).decode():
                lines.append(line.rstrip("\r\n"))
                if line[3:4] == " ":
                    break
        return "\n".join(lines)

    async def say(self, *commands: bytes) -> list[str]:
        """Send commands one by one, and return the codes of their replies."""
        return [code(await self.ask(each)) for each in commands]

    async def ask(self, command: bytes) -> str:
        """Send a command and return the reply."""
        self.writer.write(command + b"\r\n")
        return await self.reply()

    async def send(self, content: bytes, envelope: Sequence[bytes] = ENVELOPE) -> str:
        """Send a mail, which ends with a CRLF, and return the last reply."""
        for command in (*envelope, b"DATA"):
            reply = await self.ask(command)
            if reply[0] not in "23":
                return reply
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        return await self.ask(stuffed + b".")


def code(reply: str) -> str:
    """Return the code of a reply, with the enhanced one if there is one."""
    first, _, rest = reply.rpartition("\n")[2].partition(" ")
    enhanced = rest.partition(" ")[0]
    return f"{first} {enhanced}" if enhanced.replace(".", "").isdigit() else first


def files_of(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """Write a new certificate for 127.0.0.1 and its key."""
    chain, key = certificate(folder)
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(chain)
    key.touch(0o600)
    issued.private_key_pem.write_to_path(key)
    return chain, key


def plain(client: str = "shop", key: str = KEY) -> bytes:
    """Return the command that logs a client in."""
    return b"AUTH PLAIN " + base64.b64encode(f"\x00{client}\x00{key}".encode())


@asynccontextmanager
async def opened(  # noqa: PLR0913 -- the terms of the door
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    *,
    limits: Limits = UNLIMITED,
    seconds: float = PATIENCE_SECONDS,
    login_seconds: float = PATIENCE_SECONDS,
    max_octets: int = 100_000,
    budget: int = 1_000_000,
    rates: LeakyBuckets | None = None,
) -> AsyncIterator[Door]:
    """Open a door with STARTTLS and with implicit TLS."""
    made = Door(client, Clients())
    loop = asyncio.get_running_loop()
    shared = SubmissionDoor(
        Logins(made.clients.ask, b"k" * 32, loop.time, lambda: NOW),
        AcceptanceRules(Category.TRANSACTIONAL, lambda: NOW, lambda: "new-id"),
        made.publish,
        MailBudget(budget),
        rates,
    )
    connections = Connections(limits)
    servers = []
    for implicit in (False, True):
        terms = SmtpTerms(
            "door.example", server, implicit, max_octets, login_seconds, seconds, seconds
        )
        make = partial(SubmissionConnection, terms, connections, shared)
        context = server if implicit else None
        servers.append(await loop.create_server(make, "127.0.0.1", 0, ssl=context))
    made.port, made.tls_port = (each.sockets[0].getsockname()[1] for each in servers)
    try:
        yield made
    finally:
        for each in servers:
            each.close()
        shared.opened.abort()
        await shared.opened.until_none()
