"""The simulator: an SMTP server, its mailbox, the page and API of that, and their ports."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from errno import EADDRINUSE
from pathlib import Path
from typing import Final, Self
from weakref import WeakSet

from aiohttp import web

from ops.simulator.api import MailboxApi
from ops.simulator.behaviour import Behaviour
from ops.simulator.handler import SmtpHandler
from ops.simulator.mailbox import MAILS_KEPT, MailArchive, Mailbox, Traffic
from ops.simulator.policy import SmtpPolicy
from ops.simulator.smtp import Credentials, SmtpPort, SmtpServerProtocol
from ops.simulator.web import EventStream, application

BACKLOG: Final = 1024  # connections that wait to be accepted
GRACE_SECONDS: Final = 1.0  # for open requests of the page at the end


class PortTakenError(Exception):
    """A port cannot be listened on. The message has the port and the reason."""


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
        given = self._settings
        plain = SmtpPort(given.tls, credentials=given.credentials)
        self.smtp_port = await stack.enter_async_context(self._smtp(given.smtp_port, plain))
        if given.tls_port is not None:
            secure = SmtpPort(given.tls, implicit_tls=True, credentials=given.credentials)
            self.tls_port = await stack.enter_async_context(self._smtp(given.tls_port, secure))
        ports = {"smtp": self.smtp_port, "smtps": self.tls_port}
        views = MailboxApi(self.mailbox, self._policy, ports, given.published)
        app = application(views, EventStream(self.mailbox), {*given.hosts, given.web_host})
        self.web_port = await stack.enter_async_context(_web(app, given.web_host, given.web_port))

    @asynccontextmanager
    async def _smtp(self, port: int, terms: SmtpPort) -> AsyncIterator[int]:
        """Listen for clients and yield the port; the end closes all connections."""
        connections: WeakSet[SmtpServerProtocol] = WeakSet()

        def begin() -> SmtpServerProtocol:
            connection = SmtpServerProtocol(terms, self._handler, self._policy, self.traffic)
            connections.add(connection)
            return connection

        host, tls = self._settings.smtp_host, terms.tls if terms.implicit_tls else None
        loop = asyncio.get_running_loop()
        with _listening("SMTP", host, port):
            server = await loop.create_server(begin, host, port, ssl=tls, backlog=BACKLOG)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await asyncio.gather(*(each.close() for each in connections))


@asynccontextmanager
async def _web(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve the page and the API, and yield the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE_SECONDS)
    await runner.setup()
    try:
        with _listening("the mailbox", host, port):
            await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextmanager
def _listening(name: str, host: str, port: int) -> Iterator[None]:
    """Raise PortTakenError for an OSError in the block."""
    try:
        yield
    except OSError as error:
        # The messages of asyncio repeat the address.
        reason = "the port is taken" if error.errno == EADDRINUSE else str(error)
        raise PortTakenError(f"{name} on {host}:{port}: {reason}") from error
