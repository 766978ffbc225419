"""One SMTP connection, as a server: aiosmtpd with strict line ends, limits and exact octets.

aiosmtpd 1.4.6 reads commands that end in a bare LF, shares a table of limits among all connections,
checks no address, and handles a mail line by line.
"""

# ruff: noqa: N802  # aiosmtpd looks the methods up by these names

import asyncio
import logging
import ssl
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import AnyStr

import structlog
from aiosmtpd.smtp import SMTP, syntax

from services.inbound import envelope
from services.inbound.envelope import Refused
from services.inbound.lines import CrlfReader
from shared.runtime import tracing
from shared.runtime.http_connections import Connections

READ_AHEAD_OCTETS = 64 * 1024
COMMAND_OCTETS = 4096  # AUTH with a key in base64 has some 600; RFC 4954 4 allows 12,288
HANDSHAKE_SECONDS = 20.0
MAX_ERRORS = 50  # of one connection without a mail between them
MAX_UNTRUSTED_REPLIES = 200  # the same, before a login
# RFC 2034 4: each reply but a greeting has an enhanced code. aiosmtpd's own have none.
_ENHANCED = {
    b"221": b"2.0.0",
    b"250": b"2.0.0",
    b"500": b"5.5.2",
    b"501": b"5.5.4",
    b"502": b"5.5.1",
}

logger = structlog.get_logger(__name__)
logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own, with every command


@dataclass(frozen=True, slots=True)
class SmtpTerms:
    """How a port serves: its TLS, and its limits.

    Each command must come within `command_seconds`, and a mail within `mail_seconds`. A connection
    without a login lasts at most `untrusted_seconds`.
    """

    host_name: str
    context: ssl.SSLContext | None
    implicit_tls: bool
    max_octets: int
    untrusted_seconds: float
    command_seconds: float
    mail_seconds: float


class OpenConnections:
    """The open connections of a door. At its end the idle ones are closed, busy ones finish."""

    def __init__(self) -> None:
        self._open: set[LimitedSmtp] = set()
        self._changed = asyncio.Event()
        self.is_closing = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: "LimitedSmtp") -> None:
        """Add a connection that was opened."""
        self._open.add(connection)

    def remove(self, connection: "LimitedSmtp") -> None:
        """Remove a connection that has ended."""
        self._open.discard(connection)
        self._changed.set()

    def close(self) -> None:
        """End the idle connections, and from now on each one when its mail is answered."""
        self.is_closing = True
        for each in [each for each in self._open if not each.is_busy]:
            each.close()

    def abort(self) -> None:
        """Cut all connections."""
        for each in [*self._open]:
            each.abort()

    async def until_none(self) -> None:
        """Wait until no connection is open."""
        while self._open:
            self._changed.clear()
            await self._changed.wait()


class LimitedSmtp(SMTP):
    """The server's side of a connection with limits; a door adds whose mails it takes, and how."""

    line_length_limit = READ_AHEAD_OCTETS  # of the reader; commands have COMMAND_OCTETS
    max_recipients = 100

    def __init__(self, terms: SmtpTerms, connections: Connections, opened: OpenConnections) -> None:
        super().__init__(
            self,
            hostname=terms.host_name,
            ident="ESMTP Postrider",
            data_size_limit=terms.max_octets,
            enable_SMTPUTF8=True,
            timeout=terms.command_seconds,
            loop=asyncio.get_running_loop(),
        )
        self.command_size_limits = defaultdict(lambda: COMMAND_OCTETS)
        self.terms = terms
        self.remote = ""
        self.secured = terms.implicit_tls  # whether the connection is encrypted
        self.is_busy = False  # with a mail
        self.is_last = False  # whether the connection ends after its mail
        self._is_answering = False  # a mail that was received whole
        self._is_trusted = False
        self._connections = connections
        self._opened = opened
        self._admitted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._errors = self._replies = 0  # since the last mail

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a connection, or close it if there are too many."""
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if peer else ""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.terms.untrusted_seconds, self._timeout_cb)
        if limit := self._connections.admit(self.remote):
            self._connections.refused(limit, self.remote, self.loop.time())
            self._end("421 4.7.0 Too many connections, try again later")
        else:
            self._admitted = True
            self._opened.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Count the connection as closed."""
        self.trust()
        if self._admitted:
            self._admitted = False
            self._connections.release(self.remote)
            self._opened.remove(self)
        super().connection_lost(error)

    def trust(self) -> None:
        """Allow a client to stay, as after its login."""
        self._is_trusted = True
        if self._deadline is not None:
            self._deadline.cancel()

    def close(self) -> None:
        """End the connection by a 421 (RFC 5321 3.8): the service ends.

        One that is closing already waits for its client to close too, and nobody for it.
        """
        if self._is_closing:
            self._opened.remove(self)
        self._end("421 4.3.2 The service ends, try again")

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self._writer.transport.abort()

    def _end(self, reply: str) -> None:
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        if not self._is_closing:
            self._writer.write(f"{reply}\r\n".encode())
            self._writer.close()

    @property
    def _is_closing(self) -> bool:
        # A TLS connection that was closed twice, as aiosmtpd does at QUIT, cannot be written to.
        return self.transport is None or self._writer.is_closing()

    async def _handle_client(self) -> None:
        # A lost connection ends aiosmtpd's task with an error, which asyncio would log.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await super()._handle_client()

    def _cb_client_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super()._cb_client_connected(reader, writer)
        self._lines = CrlfReader(reader)
        self._reader = self._lines  # type: ignore[assignment] # it has all that aiosmtpd uses

    def _timeout_cb(self) -> None:
        if self._is_answering:
            self.is_last = True
        else:
            self._end("421 4.4.2 Timeout")

    async def push(self, status: AnyStr) -> None:
        """Send a line; end the connection after too many errors, or without a login replies."""
        await super().push(self._coded(status))
        self._errors += status[:1] in {"5", b"5"}
        self._replies += 1
        if self._errors > MAX_ERRORS:
            self._end("421 4.7.0 Too many errors")
        elif self._replies > MAX_UNTRUSTED_REPLIES and not self._is_trusted:
            self._end("421 4.7.0 Too many commands")

    def _coded(self, reply: str | bytes) -> bytes:
        """Return a reply with an enhanced code, if it is one of aiosmtpd's that should have one."""
        octets = reply.encode() if isinstance(reply, str) else reply
        code, _, text = octets.partition(b" ")
        is_greeting = text == self.terms.host_name.encode()  # to HELO
        if code not in _ENHANCED or is_greeting or text[1:2] == b".":
            return octets
        return b" ".join((code, _ENHANCED[code], text))

    async def refuse_bad(self, reply: str) -> None:
        """Send a reply and end the connection."""
        await self.push(reply)
        self._end("421 4.7.0 Closing")

    async def handle_exception(self, error: Exception) -> str:
        """Return the reply to a command that has failed."""
        if not isinstance(error, ConnectionError):  # the client has hung up
            logger.error("a command failed", exc_info=error, remote=self.remote)
        return "451 4.3.0 Internal error, try again"

    def _set_rset_state(self) -> None:
        super()._set_rset_state()  # type: ignore[no-untyped-call] # aiosmtpd's
        self.sender: str | None = None  # since MAIL
        self.recipients: dict[str, None] = {}
        self._is_utf8 = False

    @property
    def extensions(self) -> list[str]:
        """The keywords of EHLO after the first line."""
        offered = [f"SIZE {self.terms.max_octets}", "8BITMIME", "SMTPUTF8", "PIPELINING"]
        starttls = [] if self.secured or self.terms.context is None else ["STARTTLS"]
        return [*offered, "ENHANCEDSTATUSCODES", *starttls]

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str | None) -> None:
        """Greet a client, and offer the extensions."""
        if not hostname:
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self._set_rset_state()
        assert self.session is not None  # noqa: S101 -- the connection is made
        self.session.extended_smtp = True
        self.session.host_name = hostname
        lines = [self.terms.host_name, *self.extensions]
        text = "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        await self.push(text)

    async def smtp_AUTH(self, arg: str | None) -> None:
        """Refuse a login where there is none."""
        del arg
        await self.push("502 5.5.1 AUTH is not offered")

    @syntax("VRFY <address>")
    async def smtp_VRFY(self, arg: str | None) -> None:
        """Confirm no address, and deny none (RFC 5321 7.3)."""
        del arg
        if not await self.check_auth_needed("VRFY"):
            await self.push("252 2.0.0 Addresses are not verified; send the mail")

    @syntax("STARTTLS")
    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """Encrypt the connection. Commands that came before are not executed (RFC 3207 5)."""
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
        elif self.secured or self.terms.context is None:
            await self.push("503 5.5.1 TLS is on already, or not offered")
        elif self._lines.has_more:
            await self.refuse_bad("503 5.5.0 Nothing may follow STARTTLS (RFC 3207 5)")
        else:
            await self.push("220 2.0.0 Ready to start TLS")
            await self._start_tls(self.terms.context)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        try:
            await self._writer.start_tls(context, ssl_handshake_timeout=HANDSHAKE_SECONDS)
        except (OSError, asyncio.IncompleteReadError):
            logger.info("no TLS", remote=self.remote)
            self._writer.transport.abort()
            return
        self.transport = self._writer.transport
        self._lines.set_transport(self.transport)
        self._tls_protocol = self.transport  # type: ignore[assignment] # aiosmtpd's flag
        self.secured = True
        self._set_rset_state()
        assert self.session is not None  # noqa: S101 -- the connection is made
        self.session.ssl = {}
        self.session.host_name = None

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Refuse a command that comes too early, and return whether it was refused."""
        return await self.check_helo_needed(caller_method)

    async def check_helo_needed(self, helo: str = "HELO") -> bool:
        """Refuse a command before a greeting, and return whether it was refused."""
        del helo
        assert self.session is not None  # noqa: S101 -- the connection is made
        if not self.session.host_name:
            await self.push("503 5.5.1 Send EHLO first")
        return not self.session.host_name

    async def accept_sender(self, path: str) -> str:
        """Return the address of MAIL. Raises Refused."""
        return path

    def accept_recipient(self, path: str) -> str:
        """Return the address of RCPT. Raises Refused."""
        return path

    async def receive(self) -> str:
        """Read a mail by `read_mail`, and return the reply to it."""
        raise NotImplementedError

    async def read_mail(self, add: Callable[[bytes], None]) -> None:
        """Pass a mail on as `CrlfReader.read_mail`; the time of the client then stands still."""
        await self._lines.read_mail(add)
        self._is_answering = True
        self._reset_timeout()

    @syntax("MAIL FROM:<address>", extended=" [SP <mail-parameters>]")
    async def smtp_MAIL(self, arg: str | None) -> None:
        """Begin a mail."""
        if await self.check_auth_needed("MAIL"):
            return
        if self.sender is not None:
            await self.push("503 5.5.1 One MAIL at a time")
            return
        try:
            path, self._is_utf8 = envelope.read_mail(arg or "", self.terms.max_octets)
            self.sender = await self.accept_sender(path)
        except Refused as refusal:
            await self.push(refusal.reply)
        else:
            await self.push("250 2.1.0 OK")

    @syntax("RCPT TO:<address>")
    async def smtp_RCPT(self, arg: str | None) -> None:
        """Add a recipient."""
        if await self.check_auth_needed("RCPT"):
            return
        if self.sender is None:
            await self.push("503 5.5.1 Send MAIL first")
            return
        try:
            path = envelope.read_rcpt(arg or "", is_utf8=self._is_utf8)
            self._add_recipient(self.accept_recipient(path))
        except Refused as refusal:
            await self.push(refusal.reply)
        else:
            await self.push("250 2.1.5 OK")

    def _add_recipient(self, recipient: str) -> None:
        if len(self.recipients) >= self.max_recipients and recipient not in self.recipients:
            raise Refused(f"452 4.5.3 A mail has at most {self.max_recipients} recipients")
        self.recipients[recipient] = None

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:
        """Receive a mail; a positive reply follows the broker's confirm."""
        if await self.check_auth_needed("DATA"):
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
        elif not self.recipients:
            await self.push("554 5.5.1 No valid recipients")
        elif self._lines.has_more:
            # The octets may be a mail, or commands: to guess is how mails are smuggled.
            await self.refuse_bad("503 5.5.0 Nothing may follow DATA (RFC 2920 3.1)")
        else:
            self.is_busy = True
            try:
                await self._receive()
            finally:
                self.is_busy = self._is_answering = False
            if self._opened.is_closing:
                self.close()
            elif self.is_last:
                self._end("421 4.7.0 The session ends, open another")

    async def _receive(self) -> None:
        self._reset_timeout(self.terms.mail_seconds)
        with tracing.receiving(len(self.recipients)) as span:
            await self.push("354 End with a dot on a line of its own")
            reply = await self.receive()
            tracing.replied(span, reply)
        self._set_rset_state()
        if reply.startswith("2"):
            self._errors = self._replies = 0
        self._reset_timeout()
        await self.push(reply)
