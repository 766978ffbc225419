"""Opening a connection to the relay, from TCP to the login, with aiosmtplib.

From then on it is an `SmtpConnection`: the library waits for one reply at a time, and does not
report at which stage a mail failed.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPException, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from services.sender.smtp import sasl
from services.sender.smtp.connection import SmtpConnection
from services.sender.smtp.relay import Extensions, Login, Relay, Tls
from services.sender.smtp.stream import MalformedReply, RawReply, ReplyParser, SmtpStream
from services.sender.smtp.transaction import ConnectionLost
from shared.contracts import Stage
from shared.replies import reply as replies

READY = 220
UNREADABLE = b"?\r\n"  # the library refuses it


async def connect(relay: Relay, deadline: float) -> SmtpConnection:
    """Connect, encrypt and log in until `deadline`, in the loop's time. Raises ConnectionLost.

    A server that does not know EHLO and closes is greeted with HELO over a second connection.
    """
    try:
        return await _connected(relay, deadline)
    except _EhloUnknown as refusal:
        try:
            return await _connected(relay, deadline, ehlo=False)
        except ConnectionLost as lost:
            raise (lost if lost.reply.code else ConnectionLost(refusal.reply)) from lost


async def _connected(relay: Relay, deadline: float, *, ehlo: bool = True) -> SmtpConnection:
    async with _at(Stage.CONNECT, deadline - _now()):
        sock = await _dial(relay.host, relay.port, relay.timeouts.connect)
    smtp = SMTP(
        hostname=relay.host,
        local_hostname=relay.helo_name or _address_literal(sock),
        timeout=None,  # see `_at`
        start_tls=False,  # the default falls back to clear text
        tls_context=relay.context,
    )
    try:
        await _Handshake(smtp, relay, deadline).run(sock, ehlo=ehlo)
        return _taken_over(smtp, relay)
    except BaseException:
        if smtp.transport is not None:
            cast("asyncio.Transport", smtp.transport).abort()
        smtp.close()
        sock.close()
        raise


def _taken_over(smtp: SMTP, relay: Relay) -> SmtpConnection:
    """Return the connection over the library's transport. Raises ConnectionLost."""
    if smtp.transport is None or not smtp.is_connected:
        raise ConnectionLost(replies.no_reply(Stage.EHLO, "connection lost"))
    stream = SmtpStream(cast("asyncio.Transport", smtp.transport))
    return SmtpConnection(stream, Extensions.read(smtp.esmtp_extensions), relay.timeouts)


class _EhloUnknown(ConnectionLost):
    """The server does not understand EHLO and has closed; HELO may work."""


class _TolerantProtocol(SMTPProtocol):
    """The library's protocol behind `ReplyParser`.

    The library refuses blank lines and lines without a code, and reads a reply that was left over
    as the reply to the next command.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parser = ReplyParser()
        self._due = 1  # replies: the greeting
        self._too_many = False

    @property
    def has_extra(self) -> bool:
        """Whether more was received than one reply to each command."""
        return self._too_many or (self._due == 0 and self._parser.has_partial)

    def write(self, data: bytes) -> None:
        """Send a command. No octet received before is part of its reply (RFC 3207 4.2)."""
        self._too_many = self.has_extra
        self._parser, self._due = ReplyParser(), 1
        super().write(data)

    def data_received(self, data: bytes) -> None:
        """Parse the octets."""
        try:
            for raw in self._parser.feed(data):
                self._pass_on(raw)
        except MalformedReply:
            self._too_many |= self._due == 0
            super().data_received(UNREADABLE)

    def eof_received(self) -> bool:
        """Record that the server has closed; an incomplete reply counts."""
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end of the connection; an incomplete reply counts."""
        self._end()
        super().connection_lost(exc)

    def _end(self) -> None:
        for raw in self._parser.end():
            self._pass_on(raw)

    def _pass_on(self, raw: RawReply) -> None:
        if self._due == 0:
            self._too_many = True
            return
        self._due = 0
        super().data_received(_formatted(raw))


class _Handshake:
    """The steps from a socket to a session, each with a limit of its own."""

    def __init__(self, smtp: SMTP, relay: Relay, deadline: float) -> None:
        self._smtp = smtp
        self._relay = relay
        self._deadline = deadline
        self._protocol = _TolerantProtocol()

    async def run(self, sock: socket.socket, *, ehlo: bool) -> None:
        """Read the greeting, send EHLO or HELO, encrypt, log in. Raises ConnectionLost."""
        async with self._at(Stage.CONNECT):
            await self._open(sock)
        await (self._ehlo() if ehlo else self._helo())
        if self._relay.tls is Tls.STARTTLS:
            async with self._at(Stage.TLS):
                await self._smtp.starttls()
            await self._ehlo()  # the first reply, in clear text, is forgotten (RFC 3207 4.2)
        if self._relay.login is not None:
            async with self._at(Stage.AUTH):
                await self._log_in(self._relay.login)

    async def _open(self, sock: socket.socket) -> None:
        implicit = self._relay.tls is Tls.IMPLICIT
        self._smtp.transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: self._protocol,
            sock=sock,
            ssl=self._relay.context if implicit else None,
            server_hostname=self._relay.host if implicit else None,
        )
        self._smtp.protocol = self._protocol
        greeting = await self._protocol.read_response()
        if greeting.code != READY:
            raise SMTPConnectResponseError(greeting.code, greeting.message)

    async def _ehlo(self) -> None:
        try:
            async with self._at(Stage.EHLO):
                await self._smtp.ehlo()
        except ConnectionLost as refusal:
            # STARTTLS and AUTH are extensions, of no use after HELO.
            needs_ehlo = self._relay.tls is Tls.STARTTLS or self._relay.login is not None
            if not replies.refused(refusal.reply) or needs_ehlo:
                raise
            await self._fall_back_to_helo(refusal)

    async def _fall_back_to_helo(self, refusal: ConnectionLost) -> None:
        """Send HELO, as a server may know no EHLO (RFC 5321 3.2).

        Raises ConnectionLost with the refusal when the server has closed.
        """
        try:
            await self._helo()
        except ConnectionLost as lost:
            if lost.reply.code != replies.NO_REPLY:
                raise
            kind = _EhloUnknown if replies.not_understood(refusal.reply) else ConnectionLost
            raise kind(refusal.reply) from lost

    async def _helo(self) -> None:
        async with self._at(Stage.EHLO):
            await self._smtp.helo()

    async def _log_in(self, login: Login) -> None:
        """Log in by one method only: each failure counts towards a lock-out."""
        auth = login.method(self._smtp.server_auth_methods)
        if auth is None:
            raise SMTPException("the server does not offer the login that is asked for")
        await sasl.log_in(self._smtp, auth, login.username, _secret(login))

    @asynccontextmanager
    async def _at(self, stage: Stage) -> AsyncIterator[None]:
        """Limit one exchange at `stage`, after which no reply may be left over."""
        async with _at(stage, min(self._relay.timeouts.command, self._deadline - _now())):
            yield
        if self._protocol.has_extra:
            raise ConnectionLost(replies.no_reply(stage, "more replies than commands"))


def _formatted(raw: RawReply) -> bytes:
    """Return a reply in the form of RFC 5321 4.2.1."""
    *lines, last = raw.text.split("\n")
    text = "".join(f"{raw.code:03}-{line}\r\n" for line in lines) + f"{raw.code:03} {last}\r\n"
    return text.encode(errors="surrogateescape")


def _secret(login: Login) -> str:
    """Return the password, or the token: its file changes at each renewal, so it is read here.

    Raises SMTPException.
    """
    if login.token_file is None:
        return login.password
    try:
        return login.token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SMTPException("the file of the token cannot be read") from error


@asynccontextmanager
async def _at(stage: Stage, seconds: float) -> AsyncIterator[None]:
    """Raise ConnectionLost for any failure at `stage`, a timeout included.

    The library's own limits rest on `wait_for`, which before Python 3.12 may swallow a
    cancellation.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except SMTPResponseException as error:
        if error.code > 0:
            raise ConnectionLost(replies.received(stage, error.code, error.message)) from error
        raise ConnectionLost(replies.no_reply(stage, "a reply that cannot be read")) from error
    except (SMTPException, OSError) as error:
        where = Stage.TLS if isinstance(error.__cause__ or error, ssl.SSLError) else stage
        raise ConnectionLost(replies.no_reply(where, str(error) or "no reply in time")) from error


async def _dial(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address of `host` that answers within `seconds`. Raises OSError.

    The library has one limit for TCP, which answers at once or never, and for the greeting, which
    a busy server may hold back for minutes (RFC 5321 4.5.3.2.1).
    """
    failure = OSError(f"{host} has no address")
    loop = asyncio.get_running_loop()
    for family, kind, number, _, where in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            return await _dial_address(socket.socket(family, kind, number), where, seconds)
        except TimeoutError:
            failure = TimeoutError(f"{host} does not answer on port {port}")
        except OSError as error:
            failure = error
    raise failure


async def _dial_address(
    sock: socket.socket, where: tuple[Any, ...], seconds: float
) -> socket.socket:
    try:
        sock.setblocking(False)  # noqa: FBT003 -- the standard library's only form
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _address_literal(sock: socket.socket) -> str:
    """Return our own address in the form that EHLO takes (RFC 5321 4.1.3)."""
    own = sock.getsockname()[0]
    return f"[{own}]" if sock.family == socket.AF_INET else f"[IPv6:{own}]"


def _now() -> float:
    return asyncio.get_running_loop().time()
