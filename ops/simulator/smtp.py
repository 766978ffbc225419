"""The server side of one SMTP connection, on aiosmtpd."""

import asyncio
import hmac
import re
import ssl
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, AnyStr, Final, NoReturn

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, Session

from ops.simulator.behaviour import Fault
from ops.simulator.mailbox import SmtpSession, Traffic
from ops.simulator.policy import SmtpPolicy

HOSTNAME: Final = "simulator.invalid"  # RFC 2606: reserved
COMMAND_LIMIT: Final = 12_288  # octets, RFC 4954 4: AUTH lines are the longest
LINE_LIMIT: Final = 998  # octets without CRLF, RFC 5321 4.5.3.1.6
READ_AHEAD: Final = 65_536  # octets
_END: Final = b"\r\n.\r\n"
_CHUNK: Final = re.compile(r"(?P<octets>\d{1,18})(?P<last> +LAST)?", re.ASCII | re.IGNORECASE)
_TOO_BIG: Final = "552 5.3.4 Message too big"
_PLAIN_ADDRESS: Final = re.compile(r"<([\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]+)>(?: +(.*))?")

Command = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user that may log in."""

    user: str
    password: str = field(repr=False)

    def admit(self, user: bytes, password: bytes) -> bool:
        """Return whether these are the user and the password, in constant time."""
        right_user = hmac.compare_digest(user, self.user.encode())
        return hmac.compare_digest(password, self.password.encode()) and right_user


@dataclass(frozen=True, slots=True)
class SmtpPort:
    """The TLS and the user of a port; without credentials any login is accepted."""

    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    credentials: Credentials | None = None

    @property
    def starttls(self) -> ssl.SSLContext | None:
        """The context for STARTTLS, None where it is not possible."""
        return None if self.implicit_tls else self.tls


class DelayLine:
    """Delays what arrives at a connection, as a distance does, and keeps its order.

    A wait before each reply would delay pipelined commands once each instead.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: deque[Callable[[], object]] = deque()

    def carry(self, arrive: Callable[[], object], delay: float) -> None:
        """Call `arrive` after `delay` seconds, and after all earlier arrivals."""
        if not delay and not self._under_way:
            arrive()
            return
        self._under_way.append(arrive)
        self._loop.call_later(delay, self._arrive)

    def cut(self) -> None:
        """Drop all arrivals that are still delayed."""
        self._under_way.clear()

    def _arrive(self) -> None:
        # The oldest one, whichever timer fired: a shorter latency must not change the order.
        if self._under_way:
            self._under_way.popleft()()


class _Session(Session):
    login_data: Any = None  # aiosmtpd's property logs its own deprecation at each AUTH


class SmtpServerProtocol(SMTP):
    """Applies the policy to one connection, and counts the client's commands."""

    # The limit of aiosmtpd's stream; `_receive` checks the lines.
    line_length_limit = READ_AHEAD

    def __init__(
        self, port: SmtpPort, handler: object, policy: SmtpPolicy, traffic: Traffic
    ) -> None:
        loop = asyncio.get_running_loop()
        self.smtp_session = SmtpSession(number=0, open=False)  # until the connection is made
        self._port = port
        self._policy = policy
        self._traffic = traffic
        self._wire = DelayLine(loop)
        self._working = False
        super().__init__(
            handler,
            hostname=HOSTNAME,
            ident="Postrider simulator",
            tls_context=port.starttls,
            enable_SMTPUTF8=True,
            auth_require_tls=False,
            authenticator=_authenticator(port.credentials),
            loop=loop,
        )
        # aiosmtpd's own table is shared by all connections, and grows at each EHLO.
        self.command_size_limits = defaultdict(lambda: COMMAND_LIMIT)
        self._smtp_methods = {
            verb: self._watched(verb, method) for verb, method in self._smtp_methods.items()
        }

    @property
    def encrypted(self) -> bool:
        """Whether TLS is on, from the start or by STARTTLS."""
        return self._port.implicit_tls or self._tls_protocol is not None

    async def apply(self, fault: Fault) -> str | None:
        """Wait or cut the connection as a fault says; return its reply, if any."""
        if fault.delay:
            with self.at_work():
                await asyncio.sleep(fault.delay)
        if fault.cut:
            self.cut()
        return fault.reply

    def cut(self) -> NoReturn:
        """Close the connection without another octet."""
        self._writer.transport.abort()
        self._end()

    async def close(self) -> None:
        """Close the connection at any stage. A second call changes nothing."""
        if self.transport is not None:
            self._writer.transport.abort()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            await asyncio.wait({self._handler_coroutine})

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Suspend the idle time-out while the client waits for the server."""
        self._working = True
        try:
            yield
        finally:
            self._working = False

    async def push(self, status: AnyStr) -> None:
        """Send a line, and close the connection after a 421 or where the policy says so."""
        await super().push(status)
        if status[:3] in {"421", b"421"} or self._policy.closes_after(status):
            self._writer.close()
            self._end()

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Refuse a command that needs a login; aiosmtpd's setting cannot change later."""
        needed = self._policy.behaviour.require_auth and not self.smtp_session.authenticated
        if needed:
            await self.push(f"530 5.7.0 Authentication required for {caller_method}")
        return needed

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        """Receive a mail; unlike aiosmtpd's method, refuse at DATA and read in pieces."""
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        recipients = self.envelope.rcpt_tos if self.envelope else []
        if arg or not recipients:
            await self.push("501 5.5.4 DATA" if arg else "503 5.5.1 Need RCPT first")
            return
        if self.envelope and self.envelope.content is not None:
            await self.push("503 5.5.1 BDAT has begun")  # RFC 3030 2
            return
        if reply := await self.apply(self._policy.on_data(recipients, self.smtp_session.mails)):
            await self.push(reply)
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        await self._finish(await self._receive())

    async def smtp_BDAT(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        """Receive a chunk (RFC 3030 2). Its octets are read whatever the reply is."""
        fault, chunk = self._policy.behaviour.bdat_fault, _CHUNK.fullmatch(arg or "")
        if chunk is None:
            await self.push("501 5.5.4 BDAT <octets> [LAST]")
            return
        if fault == "unknown":
            await self.push("502 5.5.1 What is BDAT?")
            return
        octets = await self._chunk(int(chunk["octets"]))
        if fault == "cut":
            self.cut()
        if fault == "hangs":
            await asyncio.Event().wait()
        if fault == "refused":
            await self._refuse("503 5.5.1 Bad sequence of commands")
        elif fault is None and not (
            await self.check_helo_needed() or await self.check_auth_needed("BDAT")
        ):
            await self._add(octets, is_last=bool(chunk["last"]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, once also with STARTTLS."""
        if self._original_transport is None:
            self.smtp_session = self._traffic.open_session()
        # RFC 3207 4.2: all that was sent in clear before STARTTLS is dropped.
        self._wire.cut()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Count the connection as closed."""
        self._wire.cut()
        self._traffic.close_session(self.smtp_session)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Receive data, after the latency."""
        receive = super().data_received
        self._wire.carry(lambda: receive(data), self._latency)

    def eof_received(self) -> bool | None:
        """Drop delayed data, since aiosmtpd stops serving at once."""
        self._wire.cut()
        return super().eof_received()

    @property
    def _latency(self) -> float:
        return self._policy.behaviour.latency_ms / 1000

    async def _handle_client(self) -> None:
        # A lost connection ends aiosmtpd's task with an error, which asyncio would log.
        with suppress(ConnectionError):
            with self.at_work():
                await asyncio.sleep(self._latency)
            if refusal := self._policy.on_connect(self._traffic.open):
                await self.push(refusal)
                self._writer.close()
                return
            await super()._handle_client()

    def _watched(self, verb: str, method: Command) -> Command:
        @wraps(method)
        async def command(arg: str | None) -> None:
            self.smtp_session.encrypted = self.encrypted
            self._traffic.count_command(self.smtp_session, verb)
            if refusal := self._policy.on_command(verb, encrypted=self.encrypted):
                await self.push(refusal)
            else:
                await method(arg)
            self.smtp_session.authenticated = bool(self.session and self.session.authenticated)

        return command

    async def _receive(self) -> bytes | str:
        """Return the mail without dot stuffing, or the refusal at its end."""
        # With a CRLF before the first line an empty mail ends as any other one.
        body = bytearray(b"\r\n")
        self._reset_timeout()
        too_big = False
        while not body.endswith(_END):
            body += await self._piece()
            if len(body) > self._policy.behaviour.size_limit + len(_END) + 2:
                too_big = True
                del body[: -len(_END)]
        if too_big:
            return _TOO_BIG
        content = bytes(body[:-3]).replace(b"\r\n.", b"\r\n")[2:]
        if max(map(len, content.split(b"\r\n"))) > LINE_LIMIT:
            return "500 5.5.2 Line too long (RFC 5321 4.5.3.1.6)"
        return content

    async def _chunk(self, count: int) -> bytes:
        """Return the octets of a chunk, no more of them than are too many."""
        kept, most = bytearray(), self._policy.behaviour.size_limit + 1
        while count:
            self._reset_timeout()
            piece = await self._reader.readexactly(min(count, READ_AHEAD))
            count -= len(piece)
            kept += piece[: most - len(kept)]
        return bytes(kept)

    async def _add(self, octets: bytes, *, is_last: bool) -> None:
        """Add a chunk to the mail, and store the mail with its last one."""
        envelope = self.envelope
        if envelope is None or not envelope.rcpt_tos:
            await self._refuse("503 5.5.1 Need RCPT first")
            return
        refusal = None
        if envelope.content is None:
            fault = self._policy.on_data(envelope.rcpt_tos, self.smtp_session.mails)
            refusal = await self.apply(fault)
        before = envelope.content if isinstance(envelope.content, bytes) else b""
        content = before + octets
        if len(content) > self._policy.behaviour.size_limit:
            refusal = refusal or _TOO_BIG
        if is_last and max(map(len, content.split(b"\r\n"))) > LINE_LIMIT:
            refusal = refusal or "554 5.6.0 Line too long (RFC 5321 4.5.3.1.6)"
        if refusal:
            await self._refuse(refusal)
        elif is_last:
            await self._finish(content)
        else:
            envelope.content = content
            await self.push(f"250 2.0.0 {len(octets)} octets received")

    async def _refuse(self, reply: str) -> None:
        """Refuse a chunk, and with it the mail."""
        self.envelope = self._create_envelope()
        await self.push(reply)

    async def _piece(self) -> bytes:
        try:
            # Up to a dot and a line end, which may end the mail, and no further: the next command
            # may follow in the same packet (RFC 2920).
            return await self._reader.readuntil(b".\r\n")
        except asyncio.LimitOverrunError as overrun:
            self._reset_timeout()  # a connection that receives a large mail is not idle
            return await self._reader.read(overrun.consumed)

    async def _finish(self, received: bytes | str) -> None:
        reply = received
        if isinstance(received, bytes) and self.envelope:
            self.envelope.content = received
            reply = await self._call_handler_hook("DATA")
        self.envelope = self._create_envelope()
        await self.push(str(reply))

    def _create_session(self) -> Session:
        return _Session(self.loop)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        # The standard library's address parser would take most of the time of a session.
        if match := _PLAIN_ADDRESS.fullmatch(arg):
            return match[1], match[2] or ""
        address, rest = super()._getaddr(arg)
        return address, rest

    def _reset_timeout(self, duration: float | None = None) -> None:
        idle = self._policy.behaviour.idle_timeout_ms / 1000
        super()._reset_timeout(duration or idle)

    def _timeout_cb(self) -> None:
        if self._working:
            self._reset_timeout()
        else:
            self._writer.write(b"421 4.4.2 Idle for too long\r\n")
            self._writer.close()

    def _end(self) -> NoReturn:
        self._wire.cut()
        # As if cancelled: commands in the buffer must not be served any more.
        raise asyncio.CancelledError


def _authenticator(only: Credentials | None) -> Callable[..., AuthResult]:
    def authenticate(*about: object) -> AuthResult:
        login = about[-1]
        admitted = isinstance(login, LoginPassword) and (only is None or only.admit(*login))
        return AuthResult(success=admitted, handled=False, auth_data=login)

    return authenticate
