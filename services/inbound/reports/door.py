"""The SMTP server for reports, on aiosmtpd: it takes mail for return paths, and relays nothing."""

# ruff: noqa: N802  # aiosmtpd looks the methods up by these names

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any, AnyStr, Final, NoReturn

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.inbound.reports import metrics
from services.inbound.reports.reading import MAX_READ_OCTETS
from services.inbound.reports.receiving import ReportReceiver
from shared.return_path import ReturnedMail, ReturnPaths

COMMAND_LIMIT: Final = 2_048  # octets; RFC 5321 4.5.3.1.4 asks for 512, and extensions for more
MAX_COMMANDS: Final = 200  # of a connection
MAX_MAILS: Final = 100  # of a connection
MAX_RECIPIENTS: Final = 10  # of a mail: a report has one
# RFC 5321 4.5.3.1.6 allows 998, but servers write reports with the lines of the mail that they
# return.
MAX_LINE_OCTETS: Final = 32_768
READ_AHEAD: Final = 65_536  # octets
_END: Final = b"\r\n.\r\n"
_POSTMASTER: Final = "postmaster"  # RFC 5321 4.5.1: any server that takes mail has one

UNKNOWN = "550 5.1.1 No such mailbox here"


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Limits of connections and of mails."""

    max_bytes: int
    connections: int
    connections_by_address: int
    idle_seconds: float
    session_seconds: float


@dataclass(frozen=True, slots=True)
class DoorAddress:
    """Where to listen, and the name in the greeting."""

    hostname: str
    host: str
    port: int


@dataclass(slots=True)
class ReportConnections:
    """The connections that are open, in all and by address."""

    limits: DoorLimits
    by_address: Counter[str] = field(default_factory=Counter)
    protocols: set["DoorProtocol"] = field(default_factory=set)

    def add(self, protocol: "DoorProtocol", address: str) -> bool:
        """Count a connection; return whether it is within the limits."""
        self.protocols.add(protocol)
        self.by_address[address] += 1
        metrics.CONNECTIONS.set(len(self.protocols))
        within = len(self.protocols) <= self.limits.connections
        return within and self.by_address[address] <= self.limits.connections_by_address

    def remove(self, protocol: "DoorProtocol", address: str) -> None:
        """Forget a connection."""
        self.protocols.discard(protocol)
        self.by_address[address] -= 1
        if self.by_address[address] <= 0:
            del self.by_address[address]
        metrics.CONNECTIONS.set(len(self.protocols))


class DoorSession(Session):
    """The session of one connection."""

    login_data: Any = None  # aiosmtpd's property logs its own deprecation


class _Pieces:
    """A mail as it is received: its first octets, its size, and what is wrong with it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # With a CRLF before the first line an empty mail ends as any other one.
        self.tail = b"\r\n"
        self._kept = bytearray(self.tail)
        self._size = 0
        self._line = 0  # octets of the line that is under way
        self.refusal: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the final dot has come."""
        return self.tail.endswith(_END)

    @property
    def content(self) -> bytes:
        """The first octets, without dot stuffing."""
        end = -3 if self._kept.endswith(_END) else len(self._kept)
        return bytes(self._kept[:end]).replace(b"\r\n.", b"\r\n")[2:]

    def add(self, piece: bytes) -> None:
        """Add octets; the first thing that is wrong is the refusal."""
        joined = (b"\r" if self.tail.endswith(b"\r") else b"") + piece
        if joined.count(b"\n") != joined.count(b"\r\n") or b"\0" in piece:
            # RFC 5321 2.3.8: a bare line end is read as the end of the mail by some servers.
            self._refuse("bare line end or NUL", "550 5.6.0 Lines must end in CRLF, without NUL")
        lines = [len(each) for each in piece.split(b"\n")]
        lines[0] += self._line
        self._line = lines[-1]
        if max(lines) > MAX_LINE_OCTETS:
            self._refuse("line", "500 5.5.2 Line too long")
        self._size += len(piece)
        if self._size > self._max_bytes + len(_END):
            self._refuse("size", "552 5.3.4 Message too big")
        self._kept += piece[: max(0, MAX_READ_OCTETS - len(self._kept))]
        self.tail = (self.tail + piece)[-len(_END) :]

    def _refuse(self, reason: str, reply: str) -> None:
        if self.refusal is None:
            self.refusal = reply
            metrics.REFUSED.labels(reason).inc()


class DoorProtocol(SMTP):
    """One connection."""

    # The limit of aiosmtpd's stream; `_Pieces` checks the lines.
    line_length_limit = READ_AHEAD

    def __init__(self, handler: "DoorHandler", hostname: str, opened: ReportConnections) -> None:
        self._opened = opened
        self._limits = opened.limits
        self._is_counted = False
        self._address = ""
        self._commands = 0
        self.mails = 0
        self.answered = asyncio.Event()  # unset while a whole mail waits for its reply
        self.answered.set()
        super().__init__(
            handler,
            hostname=hostname,
            ident="ESMTP",
            enable_SMTPUTF8=True,
            data_size_limit=opened.limits.max_bytes,
            timeout=opened.limits.idle_seconds,
            loop=asyncio.get_running_loop(),
        )
        # aiosmtpd's own table is shared by all connections, and grows at each EHLO.
        self.command_size_limits = defaultdict(lambda: COMMAND_LIMIT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        peer = transport.get_extra_info("peername") or ("",)
        self._address = str(peer[0])
        self._is_counted = self._opened.add(self, self._address)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._opened.remove(self, self._address)
        super().connection_lost(error)

    async def close(self) -> None:
        """Close the connection at any stage. A second call changes nothing."""
        if self.transport is not None:
            self._writer.transport.abort()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            await asyncio.wait({self._handler_coroutine})

    async def push(self, status: AnyStr) -> None:
        """Send a line, and close the connection after a 421."""
        await super().push(status)
        if status[:3] in {"421", b"421"}:
            self._end()

    async def smtp_DATA(self, arg: str | None) -> None:
        """Receive a mail; unlike aiosmtpd's method, keep its beginning alone."""
        if await self.check_helo_needed():
            return
        if arg or not (self.envelope and self.envelope.rcpt_tos):
            await self.push("501 5.5.4 DATA" if arg else "503 5.5.1 Need RCPT first")
            return
        self.mails += 1
        if self.mails > MAX_MAILS:
            await self.push("421 4.7.0 Too many mails over one connection")
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        pieces = _Pieces(self._limits.max_bytes)
        while not pieces.has_ended:
            pieces.add(await self._piece())
        await self._finish(pieces)

    async def _piece(self) -> bytes:
        try:
            # Up to a dot and a line end, which may end the mail, and no further: the next command
            # may follow in the same packet (RFC 2920).
            return await self._reader.readuntil(b".\r\n")
        except asyncio.LimitOverrunError as overrun:
            self._reset_timeout()  # a connection that receives a large mail is not idle
            return await self._reader.read(overrun.consumed)

    async def _finish(self, pieces: _Pieces) -> None:
        self.answered.clear()
        try:
            reply = pieces.refusal
            if reply is None and self.envelope is not None:
                self.envelope.content = pieces.content
                reply = str(await self._call_handler_hook("DATA"))
            self.envelope = self._create_envelope()
            await self.push(str(reply))
        finally:
            self.answered.set()
            self._reset_timeout()

    async def _handle_client(self) -> None:
        # A lost connection ends aiosmtpd's task with an error, which asyncio would log.
        with suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            if not self._is_counted:
                metrics.REFUSED.labels("connections").inc()
                await self.push("421 4.7.0 Too many connections")
            async with asyncio.timeout(self._limits.session_seconds):
                await super()._handle_client()
        if self.transport is not None:
            self._writer.close()

    async def _call_handler_hook(self, command: str, *args: object) -> object:
        # aiosmtpd has a limit of commands that do not move a mail on; a mail moves on here too.
        self._commands += 1
        if self._commands > MAX_COMMANDS * (self.mails + 1):
            await self.push("421 4.7.0 Too many commands")
        return await super()._call_handler_hook(command, *args)

    def _create_session(self) -> Session:
        return DoorSession(self.loop)

    def _timeout_cb(self) -> None:
        if not self.answered.is_set():
            self._reset_timeout()
        elif self.transport is not None:
            metrics.REFUSED.labels("idle").inc()
            self._writer.write(b"421 4.4.2 Idle for too long\r\n")
            self._writer.close()

    def _end(self) -> NoReturn:
        self._writer.close()
        # As if cancelled: commands in the buffer must not be served any more.
        raise asyncio.CancelledError


class DoorHandler:
    """The handler that aiosmtpd calls, one for all connections."""

    def __init__(
        self, receiver: ReportReceiver, paths: ReturnPaths, addresses: Sequence[str]
    ) -> None:
        self._receiver = receiver
        self._paths = paths
        self._others = {_POSTMASTER, f"{_POSTMASTER}@{paths.domain}", *map(str.lower, addresses)}

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        """Begin a mail; reports have the null sender (RFC 5321 4.5.5), complaints an address."""
        envelope.mail_from = address or "<>"
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        """Accept a return path that a sender has signed, and a few addresses; refuse others."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        if self._returned(address) is None and address.lower() not in self._others:
            metrics.REFUSED.labels("recipient").inc()
            return UNKNOWN
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_VRFY(self, *_about: object) -> str:
        """Confirm no address."""
        return "252 2.1.5 Send a mail, and it will be tried"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Receive a mail."""
        found = map(self._returned, envelope.rcpt_tos)
        content = envelope.content
        octets = content if isinstance(content, bytes) else b""
        return await self._receiver.receive([each for each in found if each is not None], octets)

    def _returned(self, address: str) -> ReturnedMail | None:
        today: date = self._receiver.now().date()
        return self._paths.read(address, today)


@asynccontextmanager
async def listening(
    handler: DoorHandler, address: DoorAddress, limits: DoorLimits, drain: float
) -> AsyncIterator[int]:
    """Listen until the block is left, and yield the port. Raises OSError if it is in use.

    At the end it takes no more connections, waits up to `drain` seconds for the mails that were
    received whole, and closes all others.
    """
    opened = ReportConnections(limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: DoorProtocol(handler, address.hostname, opened), address.host, address.port
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        working = [each for each in opened.protocols if not each.answered.is_set()]
        await asyncio.gather(*(each.close() for each in {*opened.protocols} - {*working}))
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await asyncio.gather(*(each.answered.wait() for each in working))
        await asyncio.gather(*(each.close() for each in [*opened.protocols]))
