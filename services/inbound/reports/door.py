"""One connection of the door for reports: it takes mail for return paths, and relays nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from services.inbound import metrics
from services.inbound.envelope import Refused, too_big
from services.inbound.lines import MAIL_END, unstuffed
from services.inbound.reports.reading import MAX_READ_OCTETS
from services.inbound.reports.receiving import ArrivedMail, ReportReceiver
from services.inbound.smtp import LimitedSmtp, OpenConnections, SmtpTerms
from shared.runtime.http_connections import Connections

MAX_MAILS: Final = 100  # of a connection
# RFC 5321 4.5.3.1.6 allows 998, but servers write reports with the lines of the mail that they
# return.
MAX_LINE_OCTETS: Final = 32_768
_POSTMASTER: Final = "postmaster"  # RFC 5321 4.5.1: any server that takes mail has one

UNKNOWN = "550 5.1.1 No such mailbox here"


class _Pieces:
    """A mail as it is received: its first octets, its size, and what is wrong with it."""

    def __init__(self, max_octets: int) -> None:
        self._max_octets = max_octets
        self._kept = bytearray()
        self._size = 0
        self._line = 0  # octets of the line that is under way
        self._last = b""
        self.refusal: str | None = None

    @property
    def content(self) -> bytes:
        """The first octets, without dot stuffing."""
        return unstuffed(bytes(self._kept))

    def add(self, piece: bytes) -> None:
        """Add octets; the first thing that is wrong is the refusal."""
        joined = (b"\r" if self._last == b"\r" else b"") + piece
        self._last = piece[-1:]
        if joined.count(b"\n") != joined.count(b"\r\n") or b"\0" in piece:
            # RFC 5321 2.3.8: a bare line end is read as the end of the mail by some servers.
            self._refuse("bare line end or NUL", "550 5.6.0 Lines must end in CRLF, without NUL")
        lines = [len(each) for each in piece.split(b"\n")]
        lines[0] += self._line
        self._line = lines[-1]
        if max(lines) > MAX_LINE_OCTETS:
            self._refuse("line", "500 5.5.2 Line too long")
        self._size += len(piece)
        if self._size > self._max_octets + len(MAIL_END):
            self._refuse("size", too_big(self._max_octets))
        self._kept += piece[: max(0, MAX_READ_OCTETS - len(self._kept))]

    def _refuse(self, reason: str, reply: str) -> None:
        if self.refusal is None:
            self.refusal = reply
            metrics.REFUSED.labels(reason).inc()


@dataclass(frozen=True, slots=True)
class ReportDoor:
    """The parts that all connections of the door share; `addresses` take reports too."""

    receiver: ReportReceiver
    addresses: Sequence[str]
    opened: OpenConnections = field(default_factory=OpenConnections)

    def takes(self, address: str) -> bool:
        """Return whether an address is a return path, or another one that takes reports."""
        domain = self.receiver.paths.domain
        ours = (_POSTMASTER, f"{_POSTMASTER}@{domain}", *self.addresses)
        is_ours = address.lower() in {each.lower() for each in ours}
        return is_ours or self.receiver.returned(address) is not None


class ReportConnection(LimitedSmtp):
    """Accepts reports from any server.

    They have the null sender (RFC 5321 4.5.5), and complaints an address.
    """

    max_recipients = 10  # a report has one

    def __init__(self, terms: SmtpTerms, connections: Connections, door: ReportDoor) -> None:
        self._door = door
        self._mails = 0
        super().__init__(terms, connections, door.opened)

    def accept_recipient(self, path: str) -> str:
        """Return an address that takes reports. Raises Refused."""
        if not self._door.takes(path):
            metrics.REFUSED.labels("recipient").inc()
            raise Refused(UNKNOWN)
        return path

    async def receive(self) -> str:
        """Receive a mail; only its beginning is kept."""
        self._mails += 1
        self.is_last = self._mails >= MAX_MAILS
        pieces = _Pieces(self.terms.max_octets)
        await self.read_mail(pieces.add)
        if pieces.refusal is not None:
            return pieces.refusal
        mail = ArrivedMail(self.sender or "", [*self.recipients], pieces.content)
        return await self._door.receiver.receive(mail)
