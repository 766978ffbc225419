"""Brings the stack up in order, stays with it, and takes it down in the reverse order."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import chain

from ops.process import PidFiles
from ops.stack import checks, environment, messaging, record
from ops.stack.announcement import announcement
from ops.stack.child import GRACE_SECONDS, Child, Program
from ops.stack.client import client_key
from ops.stack.environment import SERVICES
from ops.stack.journal import Journal
from ops.stack.keys import Keys
from ops.stack.messaging import Messaging
from ops.stack.settings import Settings
from shared.config import document

_READY = 60.0  # seconds until every service has to be ready
# Seconds for an end. A sender may wait SENDER_DRAIN_DOT_SECONDS, 660, for a relay's reply.
_GRACES = {"sender": 720.0}
_SIMULATOR = "simulator"
# For the check of all other settings: the real address is checked by itself, or comes later.
_SOME_BROKER = Messaging("", None, dict.fromkeys(SERVICES, "amqp://127.0.0.1/"))


class Supervisor:
    """Runs one stack. Raises ConfigError for a file of settings that cannot be read."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], journal: Journal, pids: PidFiles
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._journal = journal
        self._pids = pids
        self._keys = Keys(settings.run_dir / "secrets.json", environ)
        self._filed = document.load(settings.config) if settings.config else {}
        self._children: dict[str, Child] = {}
        self._record: record.Record | None = None

    async def run(self) -> None:
        """Run the stack until cancelled, which ends it in good order.

        Raises ConfigError before anything is started, StackError.
        """
        checks.check(chain.from_iterable(self._services(_SOME_BROKER)))
        async with AsyncExitStack() as opened:
            where = await opened.enter_async_context(self._messaging())
            opened.callback(self._forget)
            for group in ([self._simulator()], *self._services(where)):
                await self._start(opened, group)
            self._record = await self._describe(where)
            self._write_record()
            self._journal.say(announcement(self._record, str(self._settings.run_dir)))
            await asyncio.get_running_loop().create_future()

    def hurry(self) -> None:
        """Signal the end once more: services then leave what is in flight."""
        for child in self._children.values():
            child.hurry()

    def kill(self) -> None:
        """Kill everything at once, in the middle of an end in good order."""
        for child in self._children.values():
            child.let_go()
        self._pids.end_all(within=0)

    def _messaging(self) -> AbstractAsyncContextManager[Messaging]:
        if self._settings.amqp_url:
            return messaging.given(self._settings)
        self._journal.say("postrider: starting RabbitMQ")
        return messaging.own(self._settings, self._keys, self._pids, self._journal)

    def _services(self, where: Messaging) -> list[list[Program]]:
        """Give the services in groups: the gateway comes last and is the first to go."""
        programs = {name: self._service(name, where.service_urls[name]) for name in SERVICES}
        gateway = programs.pop("gateway")
        return [list(programs.values()), [gateway]]

    def _service(self, name: str, amqp_url: str) -> Program:
        settings = self._settings
        variables = environment.of_service(
            name, self._environ, settings.ports, settings.run_dir, self._keys.get
        )
        filed = environment.filed(name, self._filed)
        config = {"CONFIG_FILE": str(settings.config)} if settings.config else {}
        return Program(
            name,
            (sys.executable, "-m", f"services.{name}"),
            environment.give_way(variables, self._environ, filed) | {"AMQP_URL": amqp_url} | config,
            f"{self._health(name)}/readyz",
            _GRACES.get(name, GRACE_SECONDS),
        )

    def _simulator(self) -> Program:
        settings = self._settings
        return Program(
            _SIMULATOR,
            (sys.executable, "-m", "ops.simulator"),
            environment.of_simulator(self._environ, settings.ports, settings.run_dir),
            f"{_local(settings.ports['MAILBOX_PORT'])}/healthz",
        )

    async def _start(self, opened: AsyncExitStack, programs: Sequence[Program]) -> None:
        """Start a group at once and wait until all of it is ready; its end is at once as well."""
        group = [Child(each, self._journal, self._pids, self._write_record) for each in programs]
        opened.push_async_callback(_stop_all, group)
        self._journal.say(f"postrider: starting {', '.join(each.name for each in programs)}")
        for child in group:
            self._children[child.program.name] = child
            await child.start()
        await asyncio.gather(*(child.ready(_READY) for child in group))

    async def _describe(self, where: Messaging) -> record.Record:
        ports = self._settings.ports
        gateway_url = _local(ports["GATEWAY_PORT"])
        admin_token = self._keys.get("GATEWAY_ADMIN_TOKEN")
        return record.Record(
            gateway_url=gateway_url,
            admin_token=admin_token,
            client_key=await client_key(gateway_url, admin_token, self._keys),
            amqp_url=where.amqp_url,
            management_url=where.management_url,
            smtp_host="127.0.0.1",
            smtp_port=ports["SMTP_PORT"],
            mailbox_url=_local(ports["MAILBOX_PORT"]),
        )

    def _write_record(self) -> None:
        if self._record is None:  # not up yet
            return
        pids = {name: self._children[name].pid for name in SERVICES}
        health = {name: f"{self._health(name)}/healthz" for name in SERVICES}
        record.write(self._settings.run_dir / "stack.json", self._record, pids, health)

    def _forget(self) -> None:
        self._record = None
        (self._settings.run_dir / "stack.json").unlink(missing_ok=True)

    def _health(self, service: str) -> str:
        return _local(self._settings.ports[environment.health_port(service)])


async def _stop_all(group: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop(child.program.grace) for child in group))


def _local(port: int) -> str:
    return f"http://127.0.0.1:{port}"
