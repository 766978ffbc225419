"""Where the simulator listens and what it may keep."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from ops.simulator.door import Credentials
from ops.simulator.mailbox import MAILS_KEPT


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the simulator listens (port 0: any that is free) and what it keeps.

    `tls` allows STARTTLS and, with `tls_port`, implicit TLS. Without `credentials`
    any login is accepted. Without `data` a restart forgets the mails. `hosts` are names that
    the page answers to besides `localhost`; `published` is the host and port at which clients
    reach `smtp_port`, where they differ (a port mapping of a container).
    """

    smtp_host: str = "127.0.0.1"
    smtp_port: int = 0
    tls_port: int | None = None
    web_host: str = "127.0.0.1"
    web_port: int = 0
    tls: ssl.SSLContext | None = None
    credentials: Credentials | None = None
    data: Path | None = None
    hosts: frozenset[str] = frozenset()
    published: str | None = None
    kept: int = MAILS_KEPT
