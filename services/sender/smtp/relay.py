"""The SMTP server that takes our mail: its settings, and the same as the sender uses them."""

import ipaddress
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.sender.schedule import Backoff
from shared.config import CertificateFile, Port, SecretFile

PAUSES = Backoff(5.0, 300.0)  # seconds without attempts at a relay that does not serve us

# A name may have one label: in a container network the relay may be called `relay`.
Host = Annotated[
    str,
    Field(
        pattern=r"^([0-9A-Za-z_-]{1,63}(\.[0-9A-Za-z_-]{1,63})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$",
        max_length=255,
    ),
]
ServerPort = Annotated[Port, Field(ge=1)]
# A domain or an address literal (RFC 5321 4.1.3); some relays know their clients by it.
HeloName = Annotated[
    str,
    Field(pattern=r"^(\[[0-9A-Za-z.:]+\]|[0-9A-Za-z][0-9A-Za-z.-]*)$", max_length=255),
]
PerSecond = Annotated[float, Field(gt=0, le=100_000)]


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
    A relay that does not serve us is not tried for the pauses of `backoff`.
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
