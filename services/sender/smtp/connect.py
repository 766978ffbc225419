"""The aiosmtplib edge: how a connection to the relay is opened, up to the login.

From then on it is an `SmtpConnection` of our own: the library waits for one reply at a time,
and does not tell at which stage a mail failed.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPException, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from services.sender.replies import reply as replies
from services.sender.smtp import sasl
from services.sender.smtp.connection import ConnectionLost, SmtpConnection
from services.sender.smtp.extensions import Extensions
from services.sender.smtp.relay import Login, Relay, Tls
from services.sender.smtp.stream import MalformedReply, RawReply, ReplyParser, SmtpStream
from shared.contracts import Stage

READY = 220
UNREADABLE = b"?\r\n"  # no reply to the library


async def connect(relay: Relay, deadline: float) -> SmtpConnection:
    """Connect, encrypt, log in; all until `deadline`, in the loop's time. Raises Lost.

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
        sock = await dial(relay.host, relay.port, relay.patience.connect)
    smtp = SMTP(
        hostname=relay.host,
        local_hostname=relay.helo_name or literal(sock),
        timeout=None,  # see `_at`
        start_tls=False,  # the default upgrades if it can, else goes on in the clear
        tls_context=relay.context,
    )
    opening = _Handshake(smtp, relay, deadline)
    try:
        await opening.run(sock, ehlo=ehlo)
        return _taken_over(smtp, relay)
    except BaseException:
        if smtp.transport is not None:
            cast("asyncio.Transport", smtp.transport).abort()
        smtp.close()
        sock.close()
        raise


def _taken_over(smtp: SMTP, relay: Relay) -> SmtpConnection:
    """Return the connection, over the transport of the library. Raises Lost."""
    if smtp.transport is None or not smtp.is_connected:
        raise ConnectionLost(replies.no_reply(Stage.EHLO, "connection lost"))
    dialogue = SmtpStream(cast("asyncio.Transport", smtp.transport))
    return SmtpConnection(dialogue, Extensions.read(smtp.esmtp_extensions), relay.patience)


class _EhloUnknown(ConnectionLost):
    """The server does not know EHLO, or not ours, and has closed; HELO may do."""


class _TolerantProtocol(SMTPProtocol):
    """The library's protocol behind our own tolerant reader.

    The library refuses blank lines and lines without a code, and takes a reply that was left over
    for the reply to the next command.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader = ReplyParser()
        self._due = 1  # replies: the greeting
        self._too_many = False

    @property
    def unasked(self) -> bool:
        """Whether there was more to read than one reply to each command."""
        return self._too_many or (self._due == 0 and self._reader.begun)

    def write(self, data: bytes) -> None:
        """Send a command. Nothing that came before it is part of the reply (RFC 3207 4.2)."""
        self._too_many = self.unasked
        self._reader, self._due = ReplyParser(), 1
        super().write(data)

    def data_received(self, data: bytes) -> None:
        """Read data."""
        try:
            for answer in self._reader.feed(data):
                self._hear(answer)
        except MalformedReply:
            self._too_many |= self._due == 0
            super().data_received(UNREADABLE)

    def eof_received(self) -> bool:
        """Note that the server has closed; a reply that it had begun counts."""
        self._hear_the_rest()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone; a reply that has begun counts."""
        self._hear_the_rest()
        super().connection_lost(exc)

    def _hear_the_rest(self) -> None:
        for answer in self._reader.end():
            self._hear(answer)

    def _hear(self, answer: RawReply) -> None:
        if self._due == 0:
            self._too_many = True
            return
        self._due = 0
        super().data_received(_written(answer))


class _Handshake:
    """The steps from a socket to a session, each with a limit of its own."""

    def __init__(self, smtp: SMTP, relay: Relay, deadline: float) -> None:
        self._smtp = smtp
        self._relay = relay
        self._deadline = deadline
        self._replies = _TolerantProtocol()

    async def run(self, sock: socket.socket, *, ehlo: bool) -> None:
        """Connect, greet with EHLO or HELO, encrypt, log in. Raises Lost."""
        async with self._at(Stage.CONNECT):
            await self._connect(sock)
        await (self._greet() if ehlo else self._greet_plainly())
        if self._relay.tls is Tls.STARTTLS:
            async with self._at(Stage.TLS):
                await self._smtp.starttls()
            await self._greet()  # what was learned in the clear is forgotten (RFC 3207 4.2)
        if self._relay.login is not None:
            async with self._at(Stage.AUTH):
                await self._log_in(self._relay.login)

    async def _connect(self, sock: socket.socket) -> None:
        implicit = self._relay.tls is Tls.IMPLICIT
        self._smtp.transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: self._replies,
            sock=sock,
            ssl=self._relay.context if implicit else None,
            server_hostname=self._relay.host if implicit else None,
        )
        self._smtp.protocol = self._replies
        greeting = await self._replies.read_response()
        if greeting.code != READY:
            raise SMTPConnectResponseError(greeting.code, greeting.message)

    async def _greet(self) -> None:
        try:
            async with self._at(Stage.EHLO):
                await self._smtp.ehlo()
        except ConnectionLost as refusal:
            if not replies.refused(refusal.reply) or self._needs_ehlo:
                raise
            await self._greet_instead(refusal)

    async def _greet_instead(self, refusal: ConnectionLost) -> None:
        """Greet with HELO, as a server may know no EHLO (RFC 5321 3.2).

        Raises Lost: when the server has closed, with its last reply.
        """
        try:
            await self._greet_plainly()
        except ConnectionLost as lost:
            if lost.reply.code != replies.NO_REPLY:
                raise
            kind = _EhloUnknown if replies.not_understood(refusal.reply) else ConnectionLost
            raise kind(refusal.reply) from lost

    async def _greet_plainly(self) -> None:
        async with self._at(Stage.EHLO):
            await self._smtp.helo()

    @property
    def _needs_ehlo(self) -> bool:
        """Whether HELO would be of no use: both are extensions."""
        return self._relay.tls is Tls.STARTTLS or self._relay.login is not None

    async def _log_in(self, login: Login) -> None:
        """Log in by one method: each failure counts towards a lock-out, so none follows."""
        auth = login.method(self._smtp.server_auth_methods)
        if auth is None:
            raise SMTPException("the server does not offer the login that is asked for")
        await sasl.log_in(self._smtp, auth, login.username, _secret(login))

    @asynccontextmanager
    async def _at(self, stage: Stage) -> AsyncIterator[None]:
        """Limit one exchange at `stage`, after which nothing may be left to read."""
        async with _at(stage, min(self._relay.patience.command, self._deadline - _now())):
            yield
        if self._replies.unasked:
            raise ConnectionLost(replies.no_reply(stage, "more replies than commands"))


def _written(answer: RawReply) -> bytes:
    """Return a reply in the form of RFC 5321 4.2.1."""
    *lines, last = answer.text.split("\n")
    text = (
        "".join(f"{answer.code:03}-{line}\r\n" for line in lines) + f"{answer.code:03} {last}\r\n"
    )
    return text.encode(errors="surrogateescape")


def _secret(login: Login) -> str:
    """Return the password, or the token, read anew: its file is written at each renewal."""
    if login.token_file is None:
        return login.password
    try:
        return login.token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SMTPException("the file of the token cannot be read") from error


@asynccontextmanager
async def _at(stage: Stage, seconds: float) -> AsyncIterator[None]:
    """Raise Lost for all that goes wrong at `stage`, among it that the time runs out.

    The library's own limits are not used: they rest on `wait_for`, which before Python 3.12 may
    swallow a cancellation.
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


def _now() -> float:
    return asyncio.get_running_loop().time()


async def dial(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address of `host` that answers within `seconds`. Raises OSError.

    The SMTP library could do it, but it has one limit for TCP, which is there at once or not at
    all, and for the greeting, which a busy server may hold back for minutes (RFC 5321
    4.5.3.2.1).
    """
    failure = OSError(f"{host} has no address")
    loop = asyncio.get_running_loop()
    for family, kind, number, _, where in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            return await _dialled(socket.socket(family, kind, number), where, seconds)
        except TimeoutError:
            failure = TimeoutError(f"{host} does not answer on port {port}")
        except OSError as error:
            failure = error
    raise failure


def literal(sock: socket.socket) -> str:
    """Return our own address in the form that EHLO takes (RFC 5321 4.1.3)."""
    own = sock.getsockname()[0]
    return f"[{own}]" if sock.family == socket.AF_INET else f"[IPv6:{own}]"


async def _dialled(sock: socket.socket, where: tuple[Any, ...], seconds: float) -> socket.socket:
    try:
        sock.setblocking(False)  # noqa: FBT003 -- the standard library's only form
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
