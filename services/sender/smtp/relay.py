"""The SMTP server that takes our mail: its settings, how the sender uses it, and what it offers."""

import ipaddress
import math
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import FailureReason, Unsendable
from services.sender.schedule import Backoff
from shared.config import CertificateFile, Port, SecretFile
from shared.contracts.fields import matching

PAUSES = Backoff(5.0, 300.0)  # seconds without attempts at a relay that does not serve us

# A name may have one label: in a container network the relay may be called `relay`.
Host = Annotated[
    str,
    matching(
        r"[0-9A-Za-z_-]{1,63}(\.[0-9A-Za-z_-]{1,63})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*",
        "must be a host name or an IP address",
    ),
    Field(max_length=255),
]
ServerPort = Annotated[Port, Field(ge=1)]
# A domain or an address literal (RFC 5321 4.1.3); some relays know their clients by it.
HeloName = Annotated[
    str,
    matching(
        r"\[[0-9A-Za-z.:]+\]|[0-9A-Za-z][0-9A-Za-z.-]*",
        "must be a host name, or an address such as [192.0.2.1]",
    ),
    Field(max_length=255),
]
PerSecond = Annotated[float, Field(gt=0, le=100_000)]
_NUMBER = re.compile(r"[0-9]{1,20}")  # RFC 1870 4
LOCK_STEP_SECONDS = 600.0  # of one command at a time, after a relay has failed at a group
MAX_FAILURES = 10  # in a row, after which a size that has worked before is not trusted any more
# Of a content in one write with its commands. That saves a round trip, in which a connection of
# 10 Mbit/s with 100 ms passes so much on. Behind more the round trip matters little, and all of it
# is sent in vain when the server refuses MAIL, as for SIZE, or every RCPT. The size is no matter of
# a deadlock: replies are read while octets wait to be sent.
MAX_JOINED_OCTETS = 131_072
# Since the last reply over a connection. A content that is written to one that was closed in the
# meantime is uncertain. No server closes an idle one as early, and no firewall forgets it.
MAX_JOINED_IDLE_SECONDS = 1.0


class Tls(StrEnum):
    """How a connection is encrypted; there is no mode that falls back to clear text."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class Auth(StrEnum):
    """How to log in (RFC 4954); `auto` chooses from the server's offer."""

    AUTO = "auto"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    XOAUTH2 = "xoauth2"


_PASSWORD_METHODS = (Auth.PLAIN, Auth.LOGIN, Auth.CRAM_MD5)  # the first that is offered


@dataclass(frozen=True, slots=True)
class Login:
    """The account at the relay; a token file is read at each login."""

    username: str
    password: str = field(default="", repr=False)
    auth: Auth = Auth.AUTO
    token_file: Path | None = None

    def method(self, offered: Collection[str]) -> Auth | None:
        """Choose from the server's offer, names in lower case; None if nothing fits."""
        if self.auth is not Auth.AUTO:
            wanted: tuple[Auth, ...] = (self.auth,)
        else:
            wanted = (Auth.XOAUTH2,) if self.token_file else _PASSWORD_METHODS
        return next((each for each in wanted if each in offered), None)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: for TCP, for the reply to a command, and for the reply to the final dot.

    RFC 5321 4.5.3.2 asks for 300 and 600; less than 600 at the dot makes duplicates. `write`
    limits the sending of a piece of the content: 180.
    """

    connect: float = 30.0
    command: float = 300.0
    dot: float = 600.0
    write: float = 180.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The number of connections, the mails over each, and the seconds of trust when idle.

    `kept_seconds` limits the reply to MAIL over a connection that was kept idle, if that is less
    than the relay's own limit. Such a connection may have been lost without a sign, and the mail
    then goes over a new one.
    """

    connections: int
    mails: int
    idle_seconds: float
    kept_seconds: float


@dataclass(frozen=True, slots=True)
class Relay:
    """The address of a relay and how to talk to it.

    Without a `helo_name` EHLO has our address (RFC 5321 4.1.3). All connections share the
    `context`, None for clear text. Several relays share the mail in proportion to their `weight`.
    A relay that does not serve us is not tried for the pauses of `backoff`. Without `chunking` BDAT
    is not used.
    """

    host: str
    port: int
    tls: Tls
    context: ssl.SSLContext | None = None
    login: Login | None = None
    helo_name: str | None = None
    timeouts: Timeouts = Timeouts()
    backoff: Backoff = PAUSES
    weight: float = 1.0
    chunking: bool = True

    @property
    def name(self) -> str:
        """The name in metrics and logs."""
        return f"{self.host}:{self.port}"


class RelaySettings(BaseModel):
    """A relay and our account there; `tls` has no default, so that clear text is a decision."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Host
    port: ServerPort
    tls: Tls
    username: str | None = None
    password: str | None = Field(None, repr=False)
    token_file: SecretFile | None = Field(None, description="For XOAUTH2; read at each login")
    auth: Auth = Auth.AUTO
    ca_file: CertificateFile | None = Field(None, description="The system's if absent")
    helo_name: HeloName | None = Field(None, description="Our address if absent")
    rate: PerSecond | None = Field(None, description="Mails a second, over all senders")
    weight: float = Field(1.0, gt=0, le=1000, description="Its share of the mail")
    chunking: bool = Field(default=True, description="Whether BDAT may be used")

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Self:
        if problem := self.problem():
            raise ValueError(problem)
        return self

    def problem(self) -> str | None:
        """Return all mistakes of the login, None if there is none."""
        secrets = [each for each in (self.password, self.token_file) if each is not None]
        wrong = {
            "USERNAME and PASSWORD or TOKEN_FILE, one of them, go together": len(secrets)
            != (self.username is not None),
            "XOAUTH2 needs a TOKEN_FILE": self.auth is Auth.XOAUTH2 and self.token_file is None,
            "the PASSWORD would cross the network in clear text": secrets
            and self.tls is Tls.NONE
            and not _is_loopback(self.host),
        }
        return "; ".join(text for text, holds in wrong.items() if holds) or None

    @property
    def login(self) -> Login | None:
        """The account, if the relay asks for one."""
        if self.username is None:
            return None
        return Login(self.username, self.password or "", self.auth, self.token_file)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions of a server that matter here. None is no limit."""

    pipelining: bool = False  # RFC 2920
    chunking: bool = False  # RFC 3030
    smtputf8: bool = False  # RFC 6531
    eight_bit: bool = False  # RFC 6152
    sized: bool = False  # RFC 1870: MAIL may have the size
    dsn: bool = False  # RFC 3461: reports have a reliable form
    size: int | None = None
    mails: int | None = None  # RFC 9422: transactions of one connection
    recipients: int | None = None  # the same: of one transaction
    domains: int | None = None  # the same: of recipients, over one connection

    @classmethod
    def read(cls, extensions: Mapping[str, str]) -> Self:
        """Parse the reply to EHLO: parameters by keyword, in lower case."""
        limits = dict(_assignment(word) for word in extensions.get("limits", "").split())
        return cls(
            pipelining="pipelining" in extensions,
            chunking="chunking" in extensions,
            smtputf8="smtputf8" in extensions,
            eight_bit="8bitmime" in extensions,
            sized="size" in extensions,
            dsn="dsn" in extensions,
            size=_limit(extensions.get("size", "")),
            mails=_limit(limits.get("MAILMAX", "")),
            recipients=_limit(limits.get("RCPTMAX", "")),
            domains=_limit(limits.get("RCPTDOMAINMAX", "")),
        )

    def reachable(self, mail: OutgoingMail) -> tuple[str, ...]:
        """Return the recipients that the server can serve with its extensions."""
        return mail.recipients if self.smtputf8 else mail.within_ascii

    def objection(self, mail: OutgoingMail) -> Unsendable | None:
        """Return why no recipient of the mail can be served (RFC 6531 3.5, RFC 1870 5)."""
        if not self.reachable(mail):
            return Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
        if self.size is not None and self.size < len(mail.content):
            return Unsendable(FailureReason.TOO_BIG)
        return None


def _assignment(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.upper(), value


def _limit(text: str) -> int | None:
    """Return a number, None for no limit: 0 (RFC 1870 4), or a text that is no number."""
    return (int(text) or None) if _NUMBER.fullmatch(text) else None


class Pipelining:
    """A relay's history of command groups, by their number of recipients (RFC 2920).

    A relay that drops early commands always does so, and one with a small buffer does so for large
    groups. But the mail of any client may end without a reply too. So a failure at a size that has
    worked before counts only after MAX_FAILURES in a row. Times are in seconds of one clock.
    """

    def __init__(self) -> None:
        self._largest = 0  # recipients of a group that has worked
        self._failures = 0  # in a row
        self._too_large = 0
        self._until = 0.0

    def allows(self, recipients: int, now: float) -> bool:
        """Return whether commands for so many may go out in one group."""
        return now >= self._until or recipients < self._too_large

    def succeeded(self, recipients: int) -> None:
        """Record that there was a reply to each command of a group."""
        self._failures = 0
        self._largest = max(self._largest, recipients)

    def failed(self, recipients: int, now: float) -> None:
        """Record that replies to a group were missing, or belonged to other commands."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self._largest = 0
        if recipients > self._largest:
            self._too_large, self._until = self._largest + 1, now + LOCK_STEP_SECONDS


class ContentMode(Enum):
    """How the content goes to the server, and in which write."""

    DATA = "after the reply to DATA"
    TRIAL = "by BDAT: the first line with the commands, the rest after their replies"
    JOINED = "by BDAT, all of it in one write with the commands"


class Chunking:
    """A relay's history of BDAT (RFC 3030); without `enabled` it is not used.

    A relay has to prove that it knows BDAT by a TRIAL, in which nothing can have been accepted when
    it does not. One that fails at it has DATA for good. A relay that has proved it may lose the
    connection for reasons of the network, or of one mail, so it has DATA for a while, and then a
    TRIAL again. Times are in seconds of one clock.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._until = 0.0 if enabled else math.inf
        self._proven = False

    def mode(self, octets: int, idle: float, now: float) -> ContentMode:
        """Return how to send a content over a connection that had a reply `idle` seconds ago."""
        if now < self._until or octets > MAX_JOINED_OCTETS or idle > MAX_JOINED_IDLE_SECONDS:
            return ContentMode.DATA
        return ContentMode.JOINED if self._proven else ContentMode.TRIAL

    def succeeded(self) -> None:
        """Record that a mail was accepted by BDAT."""
        self._proven = True

    def failed(self, now: float) -> bool:
        """Record that the relay failed; return False for more of the same failure."""
        if now < self._until:
            return False
        self._until = now + LOCK_STEP_SECONDS if self._proven else math.inf
        self._proven = False
        return True
