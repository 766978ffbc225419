"""The simulator: an SMTP server, its mailbox, and the page and API of that."""

import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ops.simulator.api import MailboxApi
from ops.simulator.behaviour import Behaviour
from ops.simulator.handler import SmtpHandler
from ops.simulator.listener import Listener
from ops.simulator.mailbox import MAILS_KEPT, MailArchive, Mailbox
from ops.simulator.policy import SmtpPolicy
from ops.simulator.smtp import Credentials, SmtpPort, SmtpServerProtocol
from ops.simulator.traffic import Traffic
from ops.simulator.web import EventStream, application, served


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """The addresses and limits of a simulator; port 0 is any free one.

    `tls` allows STARTTLS and, with `tls_port`, implicit TLS. Without `credentials` any login is
    accepted. Without `data` the mails are in memory only. `hosts` are names of the page besides
    `localhost`; `published` is the host and port at which clients reach `smtp_port`, where they
    differ (a port mapping of a container).
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


class Simulator:
    r"""An SMTP server, its mailbox, page and API, in the running loop.

    `smtp_port`, `tls_port` \(or None\) and `web_port` are set while it is open. `behaviour` can be
    changed at any time. `clock` returns monotonic seconds, for the greylist and the rate.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build it. Raises OSError if the data directory cannot be used."""
        self._settings = settings or SimulatorSettings()
        archive = MailArchive(self._settings.data) if self._settings.data else None
        self.mailbox = Mailbox(archive, self._settings.kept)
        self.traffic = Traffic()
        self._policy = SmtpPolicy(clock)
        self._handler = SmtpHandler(self._policy, self.mailbox)
        self._opened = AsyncExitStack()
        self.smtp_port = 0
        self.tls_port: int | None = None
        self.web_port = 0

    @property
    def behaviour(self) -> Behaviour:
        """The behaviour towards all clients."""
        return self._policy.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._policy.behaviour = behaviour

    @property
    def web_url(self) -> str:
        """The address of the page, without a slash at the end."""
        return f"http://{self._settings.web_host}:{self.web_port}"

    async def __aenter__(self) -> Self:
        """Listen on all ports. Raises PortTakenError."""
        async with AsyncExitStack() as opening:
            await self._open(opening)
            self._opened = opening.pop_all()
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self._opened.aclose()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        plain = SmtpPort(settings.tls, credentials=settings.credentials)
        listener = self._listener(settings.smtp_port, plain)
        self.smtp_port = (await stack.enter_async_context(listener)).port
        if settings.tls_port is not None:
            endpoint = SmtpPort(settings.tls, implicit_tls=True, credentials=plain.credentials)
            listener = self._listener(settings.tls_port, endpoint)
            self.tls_port = (await stack.enter_async_context(listener)).port
        ports = {"smtp": self.smtp_port, "smtps": self.tls_port}
        views = MailboxApi(self.mailbox, self._policy, ports, settings.published)
        app = application(views, EventStream(self.mailbox), {*settings.hosts, settings.web_host})
        self.web_port = await stack.enter_async_context(
            served(app, settings.web_host, settings.web_port)
        )

    def _listener(self, port: int, endpoint: SmtpPort) -> Listener:
        return Listener(
            self._settings.smtp_host,
            port,
            lambda: SmtpServerProtocol(endpoint, self._handler, self._policy, self.traffic),
            endpoint.tls if endpoint.implicit_tls else None,
        )
