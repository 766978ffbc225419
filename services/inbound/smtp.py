"""One SMTP connection, as a server: aiosmtpd with strict line ends, limits and exact octets.

aiosmtpd 1.4.6 reads commands that end in a bare LF, shares a table of limits among all connections,
checks no address, and handles a mail line by line.
"""

import asyncio
import logging
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, AnyStr

import structlog
from aiosmtpd.smtp import SMTP, syntax

from shared.runtime.http_connections import Connections

READ_AHEAD_OCTETS = 64 * 1024
COMMAND_OCTETS = 4096  # AUTH with a key in base64 has some 600; RFC 4954 4 allows 12,288
HANDSHAKE_SECONDS = 20.0
MAX_ERRORS = 50  # of one connection without a mail between them

logger = structlog.get_logger(__name__)
logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own, with every command


@dataclass(frozen=True, slots=True)
class SmtpTerms:
    """How a port serves: its TLS, and its limits.

    All that comes before the login must come within `login_seconds`, then each command within
    `command_seconds`, and a mail within `mail_seconds`.
    """

    host_name: str
    context: ssl.SSLContext | None
    implicit_tls: bool
    max_octets: int
    login_seconds: float
    command_seconds: float
    mail_seconds: float


class CrlfReader:
    """A reader whose lines end in CRLF alone (RFC 5321 2.3.8); the rest is the reader's."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._inner = reader

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- all else that a reader has
        return getattr(self._inner, name)

    async def readuntil(self, separator: bytes = b"\r\n") -> bytes:
        """Return the octets up to a separator. Raises LimitOverrunError."""
        return await self._inner.readuntil(separator)

    @property
    def has_more(self) -> bool:
        """Whether octets were received that nothing has read yet."""
        return bool(self._inner._buffer)  # type: ignore[attr-defined]  # noqa: SLF001 -- as aiosmtpd

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Pause and resume another transport from now on, as after STARTTLS."""
        self._inner._transport = transport  # type: ignore[attr-defined]  # noqa: SLF001 -- the same

    async def read_mail(self, take: Callable[[int], bool]) -> bytes | None:
        """Return a mail up to its final dot, without it and without the stuffing dots.

        `take` is asked before octets are kept. If it refuses some, the mail is read to its end, and
        the result is None. Nothing of the mail must have been received yet.
        """
        # The separator then also ends an empty mail. It is removed below.
        self._inner.feed_data(b"\r\n")
        pieces, keeps = list[bytes](), True
        while True:
            try:
                piece, ended = await self._inner.readuntil(b"\r\n.\r\n"), True
            except asyncio.LimitOverrunError as over:
                piece, ended = await self._inner.read(over.consumed), False
            keeps = keeps and take(len(piece))
            if keeps:
                pieces.append(piece)
            else:
                pieces.clear()
            if ended:
                break
        if not keeps:
            return None
        return b"".join(pieces)[: -len(b".\r\n")].replace(b"\r\n.", b"\r\n")[len(b"\r\n") :]


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
    """The server's side of a connection with limits; a door adds what it does with mails."""

    line_length_limit = READ_AHEAD_OCTETS  # of the reader; commands have COMMAND_OCTETS

    def __init__(self, terms: SmtpTerms, connections: Connections, opened: OpenConnections) -> None:
        super().__init__(
            self,
            hostname=terms.host_name,
            ident="ESMTP Postrider",
            data_size_limit=terms.max_octets,
            enable_SMTPUTF8=True,
            tls_context=None if terms.implicit_tls else terms.context,
            require_starttls=not terms.implicit_tls,
            timeout=terms.login_seconds,
            loop=asyncio.get_running_loop(),
        )
        self.command_size_limits = defaultdict(lambda: COMMAND_OCTETS)
        self.terms = terms
        self.remote = ""
        self.trusted = False  # whether the client has time from command to command
        self._connections = connections
        self._opened = opened
        self._admitted = False
        self._errors = 0
        self.is_busy = False  # with a mail
        self._secured = terms.implicit_tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a connection, or close it if there are too many."""
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if peer else ""
        super().connection_made(transport)
        if limit := self._connections.admit(self.remote):
            self._connections.refused(limit, self.remote, self.loop.time())
            self._end("421 4.7.0 Too many connections, try again later")
        else:
            self._admitted = True
            self._opened.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Count the connection as closed."""
        if self._admitted:
            self._admitted = False
            self._connections.release(self.remote)
            self._opened.remove(self)
        super().connection_lost(error)

    def close(self) -> None:
        """End the connection by a 421 (RFC 5321 3.8): the service ends."""
        self._end("421 4.3.2 The service ends, try again")

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self._writer.transport.abort()

    def _end(self, reply: str) -> None:
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        if self.transport is not None:
            self._writer.write(f"{reply}\r\n".encode())
            self._writer.close()

    def _cb_client_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super()._cb_client_connected(reader, writer)
        self._lines = CrlfReader(reader)
        self._reader = self._lines  # type: ignore[assignment] # it has all that aiosmtpd uses

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Begin a new time for the next command, unless there has been no login yet."""
        if self.trusted:
            super()._reset_timeout(duration or self.terms.command_seconds)
        elif self._timeout_handle is None:
            super()._reset_timeout()

    def _timeout_cb(self) -> None:
        self._end("421 4.4.2 Timeout")

    async def push(self, status: AnyStr) -> None:
        """Send a line; end the connection after too many errors."""
        await super().push(status)
        first = status[:1]
        self._errors += first in {"5", b"5"}
        if self._errors > MAX_ERRORS:
            self._end("421 4.7.0 Too many errors")

    async def refuse_bad(self, reply: str) -> None:
        """Send a reply and end the connection."""
        await self.push(reply)
        self._end("421 4.7.0 Closing")

    async def handle_exception(self, error: Exception) -> str:
        """Return the reply to a command that has failed."""
        logger.error("a command failed", exc_info=error, remote=self.remote)
        return "451 4.3.0 Internal error, try again"

    def _begin_anew(self) -> None:
        """Forget the mail that has begun."""
        self._set_rset_state()  # type: ignore[no-untyped-call] # aiosmtpd's, which calls it too

    @property
    def extensions(self) -> list[str]:
        """The keywords of EHLO after the first line, without AUTH."""
        offered = [f"SIZE {self.terms.max_octets}", "8BITMIME", "SMTPUTF8", "PIPELINING"]
        starttls = [] if self._secured or self.terms.context is None else ["STARTTLS"]
        return [*offered, "ENHANCEDSTATUSCODES", *starttls]

    @property
    def secured(self) -> bool:
        """Whether the connection is encrypted."""
        return self._secured

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        """Greet a client, and offer the extensions."""
        if not hostname:
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self._begin_anew()
        assert self.session is not None  # noqa: S101 -- the connection is made
        self.session.extended_smtp = True
        self.session.host_name = hostname
        lines = [self.terms.host_name, *self.extensions]
        text = "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        await self.push(text)

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        """Encrypt the connection. Commands that came before are not executed (RFC 3207 5)."""
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
        elif self._secured or self.terms.context is None:
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
        self._secured = True
        self._begin_anew()
        assert self.session is not None  # noqa: S101 -- the connection is made
        self.session.ssl = {}
        self.session.host_name = None
