"""The SMTP server that takes our mail, as data."""

import ipaddress
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.sender.smtp.circuit_breaker import Backoff
from shared.config import CertificateFile, Port, SecretFile

REST = Backoff(5.0, 300.0)  # seconds: at first, and at most


class Tls(StrEnum):
    """How a connection is encrypted; there is no mode that falls back to clear text."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class Auth(StrEnum):
    """How to log in (RFC 4954); `auto` takes what the server offers."""

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
        """Choose among what the server offers, names in small letters; None if nothing fits."""
        if self.auth is not Auth.AUTO:
            wanted: tuple[Auth, ...] = (self.auth,)
        else:
            wanted = (Auth.XOAUTH2,) if self.token_file else _PASSWORD_METHODS
        return next((each for each in wanted if each in offered), None)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds: for TCP, for the reply to a command, for that to the dot.

    RFC 5321 4.5.3.2 asks for 300 and 600; less than 600 at the dot makes duplicates. `write` is
    for a piece of the content to be taken: 180.
    """

    connect: float = 30.0
    command: float = 300.0
    dot: float = 600.0
    write: float = 180.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections, how many mails over each, and how long one is trusted when idle.

    `kept_seconds` is for the reply to MAIL over a connection that was kept, if that is less than
    the relay's own limit: a connection may have died without a sign, and the mail goes over a new
    one then.
    """

    connections: int
    mails: int
    idle_seconds: float
    kept_seconds: float


@dataclass(frozen=True, slots=True)
class Relay:
    """Where it is and how to talk to it.

    Without a `helo_name` we introduce ourselves by address (RFC 5321 4.1.3). `context` is shared
    by all connections, None when they are in the clear. Of several relays each gets mail in the
    proportion of its `weight`. One that does not serve us rests by `backoff`.
    """

    host: str
    port: int
    tls: Tls
    context: ssl.SSLContext | None = None
    login: Login | None = None
    helo_name: str | None = None
    patience: Timeouts = Timeouts()
    backoff: Backoff = REST
    weight: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in metrics and logs."""
        return f"{self.host}:{self.port}"


# A name of one label too: in a container network the relay may well be called `relay`.
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


class RelaySettings(BaseModel):
    """A relay and how we log in there; `tls` has no default, so that clear text is a decision."""

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
        """Return all that is wrong with the login, None if nothing is."""
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
