"""The wiring: everything that the simulator is, opened in one `async with`."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from ops.simulator.archive import Archive
from ops.simulator.behaviour import Behaviour
from ops.simulator.door import Door
from ops.simulator.events import Events
from ops.simulator.hooks import Hooks
from ops.simulator.listener import Listener
from ops.simulator.mailbox import Mailbox
from ops.simulator.policy import Policy
from ops.simulator.settings import Settings
from ops.simulator.smtp import Conversation
from ops.simulator.traffic import Traffic
from ops.simulator.views import Views
from ops.simulator.web import application, served


class Simulator:
    """An SMTP server, its mailbox, page and API, in the loop that runs.

    While it is open, `smtp_port`, `tls_port` (or None) and `web_port` tell where.
    `mailbox` holds the mails, `traffic` counts, `behaviour` can be set at any time.
    `clock` counts seconds for the greylist and the rate.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build it; raise OSError if the data directory cannot be used."""
        self._settings = settings or Settings()
        archive = Archive(self._settings.data) if self._settings.data else None
        self.mailbox = Mailbox(archive, self._settings.kept)
        self.traffic = Traffic()
        self._policy = Policy(clock)
        self._hooks = Hooks(self._policy, self.mailbox)
        self._opened = AsyncExitStack()
        self.smtp_port = 0
        self.tls_port: int | None = None
        self.web_port = 0

    @property
    def behaviour(self) -> Behaviour:
        """How the whole behaves."""
        return self._policy.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._policy.behaviour = behaviour

    @property
    def web_url(self) -> str:
        """The address of the page, without a slash at the end."""
        return f"http://{self._settings.web_host}:{self.web_port}"

    async def __aenter__(self) -> Self:
        """Listen; raise PortTakenError if a port cannot be had."""
        async with AsyncExitStack() as opening:
            await self._open(opening)
            self._opened = opening.pop_all()
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self._opened.aclose()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        plain = Door(settings.tls, credentials=settings.credentials)
        listener = self._listener(settings.smtp_port, plain)
        self.smtp_port = (await stack.enter_async_context(listener)).port
        if settings.tls_port is not None:
            door = Door(settings.tls, implicit_tls=True, credentials=plain.credentials)
            listener = self._listener(settings.tls_port, door)
            self.tls_port = (await stack.enter_async_context(listener)).port
        ports = {"smtp": self.smtp_port, "smtps": self.tls_port}
        views = Views(self.mailbox, self._policy, ports, settings.published)
        app = application(views, Events(self.mailbox), {*settings.hosts, settings.web_host})
        self.web_port = await stack.enter_async_context(
            served(app, settings.web_host, settings.web_port)
        )

    def _listener(self, port: int, door: Door) -> Listener:
        return Listener(
            self._settings.smtp_host,
            port,
            lambda: Conversation(door, self._hooks, self._policy, self.traffic),
            door.tls if door.implicit_tls else None,
        )
