"""The SMTP server that takes our mail, as data."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum


class Tls(StrEnum):
    """How a connection is encrypted; there is no mode that falls back to clear text."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Login:
    """The account at the relay."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for TCP, for the reply to a command, for that to the dot.

    RFC 5321 4.5.3.2 asks for 300 and 600; less than 600 at the dot makes duplicates.
    """

    connect: float = 30.0
    command: float = 300.0
    dot: float = 600.0


@dataclass(frozen=True, slots=True)
class Relay:
    """Where it is and how to talk to it.

    Without a `helo_name` we introduce ourselves by address (RFC 5321 4.1.3). `context` is shared
    by all connections, None when they are in the clear.
    """

    host: str
    port: int
    tls: Tls
    context: ssl.SSLContext | None = None
    login: Login | None = None
    helo_name: str | None = None
    patience: Patience = Patience()
