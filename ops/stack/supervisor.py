"""The stack as a whole: started in order, watched, and ended in the reverse order."""

import asyncio
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import chain

from ops.process import PidFiles
from ops.secret_file import SecretFile
from ops.stack import messaging, record
from ops.stack.child import GRACE_SECONDS, Child, ServiceLogs, ServiceProgram
from ops.stack.messaging import BrokerUrls
from ops.stack.record import announcement, client_key
from ops.stack.settings import (
    SERVICES,
    StackSettings,
    file_variables,
    health_port,
    prefer_file,
    service_environment,
    simulator_environment,
)
from services.classifier.config import ClassifierSettings
from services.gateway.config import GatewaySettings
from services.ledger.config import LedgerSettings
from services.otp.config import OtpSettings
from services.sender.config import SenderSettings
from shared.config import Settings, SettingsWarning, sources
from shared.errors import ConfigError

_SETTINGS: dict[str, type[Settings]] = {
    each.service: each
    for each in (
        ClassifierSettings,
        GatewaySettings,
        LedgerSettings,
        OtpSettings,
        SenderSettings,
    )
}
_READY_SECONDS = 60.0  # until every service must be ready
# A sender may wait SENDER_DRAIN_DOT_SECONDS, 660, for a relay's reply.
_END_SECONDS = {"sender": 720.0}
_SIMULATOR = "simulator"
# For the check of all other settings, before there is a broker.
_SOME_BROKER = BrokerUrls("", None, dict.fromkeys(SERVICES, "amqp://127.0.0.1/"))


def check(programs: Iterable[ServiceProgram]) -> None:
    """Raise ConfigError with a line for each mistake in the settings of some services."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsWarning)  # each service logs its own
        mistakes = [line for program in programs for line in _mistakes(program)]
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))


def _mistakes(program: ServiceProgram) -> Iterator[str]:
    try:
        _SETTINGS[program.name].load(program.environment)
    except ConfigError as error:
        yield from (f"{program.name}: {line}" for line in str(error).splitlines())


class Supervisor:
    """Runs one stack. Raises ConfigError for a file of settings that cannot be read."""

    def __init__(
        self,
        settings: StackSettings,
        environ: Mapping[str, str],
        logs: ServiceLogs,
        pids: PidFiles,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._logs = logs
        self._pids = pids
        self._keys = SecretFile(settings.run_dir / "secrets.json", environ)
        self._filed = sources.load_file(settings.config) if settings.config else {}
        self._children: dict[str, Child] = {}
        self._record: record.StackRecord | None = None

    async def run(self) -> None:
        """Run the stack until cancelled, which ends it in good order.

        Raises ConfigError before anything is started, StackError.
        """
        check(chain.from_iterable(self._services(_SOME_BROKER)))
        async with AsyncExitStack() as opened:
            where = await opened.enter_async_context(self._messaging())
            opened.callback(self._forget)
            for group in ([self._simulator()], *self._services(where)):
                await self._start(opened, group)
            self._record = await self._describe(where)
            self._write_record()
            self._logs.print(announcement(self._record, str(self._settings.run_dir)))
            await asyncio.get_running_loop().create_future()

    def hurry(self) -> None:
        """Send SIGTERM once more: services then abandon work in flight."""
        for child in self._children.values():
            child.hurry()

    def kill(self) -> None:
        """Kill all processes at once."""
        for child in self._children.values():
            child.abandon()
        self._pids.end_all(within=0)

    def _messaging(self) -> AbstractAsyncContextManager[BrokerUrls]:
        if self._settings.amqp_url:
            return messaging.given(self._settings)
        self._logs.print("postrider: starting RabbitMQ")
        return messaging.own(self._settings, self._keys, self._pids, self._logs)

    def _services(self, where: BrokerUrls) -> list[list[ServiceProgram]]:
        """Return the services in groups, in the order of their start; the gateway is the last."""
        programs = {name: self._service(name, where.service_urls[name]) for name in SERVICES}
        gateway = programs.pop("gateway")
        return [list(programs.values()), [gateway]]

    def _service(self, name: str, amqp_url: str) -> ServiceProgram:
        settings = self._settings
        variables = service_environment(
            name, self._environ, settings.ports, settings.run_dir, self._keys.get
        )
        filed = file_variables(name, self._filed)
        config = {"CONFIG_FILE": str(settings.config)} if settings.config else {}
        return ServiceProgram(
            name,
            (sys.executable, "-m", f"services.{name}"),
            prefer_file(variables, self._environ, filed) | {"AMQP_URL": amqp_url} | config,
            f"{self._health(name)}/readyz",
            _END_SECONDS.get(name, GRACE_SECONDS),
        )

    def _simulator(self) -> ServiceProgram:
        settings = self._settings
        return ServiceProgram(
            _SIMULATOR,
            (sys.executable, "-m", "ops.simulator"),
            simulator_environment(self._environ, settings.ports, settings.run_dir),
            f"{_local(settings.ports['MAILBOX_PORT'])}/healthz",
        )

    async def _start(self, opened: AsyncExitStack, programs: Sequence[ServiceProgram]) -> None:
        """Start a group and wait until all of it is ready; its processes end together, too."""
        group = [Child(each, self._logs, self._pids, self._write_record) for each in programs]
        opened.push_async_callback(_stop_all, group)
        self._logs.print(f"postrider: starting {', '.join(each.name for each in programs)}")
        for child in group:
            self._children[child.program.name] = child
            await child.start()
        await asyncio.gather(*(child.ready(_READY_SECONDS) for child in group))

    async def _describe(self, where: BrokerUrls) -> record.StackRecord:
        ports = self._settings.ports
        gateway_url = _local(ports["GATEWAY_PORT"])
        admin_token = self._keys.get("GATEWAY_ADMIN_TOKEN")
        return record.StackRecord(
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
        return _local(self._settings.ports[health_port(service)])


async def _stop_all(group: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop(child.program.grace) for child in group))


def _local(port: int) -> str:
    return f"http://127.0.0.1:{port}"
