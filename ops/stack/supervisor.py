"""The stack as a whole: started in order, watched, ended in the reverse order; and its record."""

import asyncio
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import chain
from pathlib import Path

import aiohttp

from ops.credentials import SecretFile, write_certificate, write_private
from ops.process import PidFiles
from ops.stack import messaging
from ops.stack.child import GRACE_SECONDS, Child, ServiceLogs, ServiceProgram
from ops.stack.messaging import BrokerUrls
from ops.stack.settings import (
    SERVICES,
    StackError,
    StackSettings,
    certificate,
    check_free,
    file_variables,
    health_port,
    prefer_file,
    service_environment,
    simulator_environment,
)
from services.classifier.config import ClassifierSettings
from services.console.config import ConsoleSettings
from services.gateway.config import GatewaySettings
from services.inbound.config import InboundSettings
from services.ledger.config import LedgerSettings
from services.otp.config import OtpSettings
from services.scheduler.config import SchedulerSettings
from services.sender.config import SenderSettings
from services.webhooks.config import WebhookSettings
from shared.config import Settings, SettingsWarning, sources
from shared.errors import ConfigError
from shared.storage.database import check_server

_SETTINGS: dict[str, type[Settings]] = {
    each.service: each
    for each in (
        *(ClassifierSettings, GatewaySettings, LedgerSettings, OtpSettings, SchedulerSettings),
        *(SenderSettings, InboundSettings, WebhookSettings, ConsoleSettings),
    )
}
_READY_SECONDS = 60.0  # until every service must be ready
# A sender may wait SENDER_DRAIN_DOT_SECONDS, 660, for a relay's reply.
_END_SECONDS = {"sender": 720.0}
_SIMULATOR = "simulator"
_CLIENT_ID = "local"
_CLIENT_KEY = "CLIENT_KEY"  # in the file of secrets
_MAIL = '{"to": "you@inbox.example", "subject": "Hello", "text": "It works."}'
_CODE = '{"email": "you@inbox.example"}'
# For the check of all other settings, before there is a broker.
_SOME_BROKER = BrokerUrls("", None, dict.fromkeys(SERVICES, "amqp://127.0.0.1/"))


def check(programs: Sequence[ServiceProgram]) -> Sequence[Settings]:
    """Return the settings of some services.

    Raises ConfigError with a line for each mistake, and its services unless it is one of all.
    """
    loaded: list[Settings] = []
    mistakes: dict[str, list[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsWarning)  # each service logs its own
        for program in programs:
            try:
                loaded.append(_SETTINGS[program.name].load(program.environment))
            except ConfigError as error:
                for line in dict.fromkeys(str(error).splitlines()):
                    mistakes.setdefault(line, []).append(program.name)
    if mistakes:
        lines = (
            line if 1 < len(names) == len(programs) else f"{', '.join(names)}: {line}"
            for line, names in mistakes.items()
        )
        raise ConfigError("\n".join(lines))
    return loaded


async def check_databases(services: Iterable[Settings]) -> None:
    """Raise StackError unless the servers of the databases, if any is set, take writes."""
    for url in sorted({each.database_url for each in services if each.database_url}):
        try:
            await check_server(url)
        except OSError as error:
            raise StackError(str(error)) from error


@dataclass(frozen=True)
class StackRecord:
    """The addresses and keys, which do not change while the stack runs."""

    gateway_url: str
    admin_token: str = field(repr=False)
    client_key: str = field(repr=False)
    amqp_url: str = field(repr=False)
    management_url: str | None
    smtp_host: str
    smtp_port: int
    mailbox_url: str
    client_id: str
    submission_port: int
    submission_tls_port: int
    report_port: int
    console_url: str
    console_token: str = field(repr=False)


class Supervisor:
    """Runs one stack. Raises ConfigError for a file of settings that cannot be read.

    `added` returns further variables of a service.
    """

    def __init__(
        self,
        settings: StackSettings,
        environ: Mapping[str, str],
        logs: ServiceLogs,
        pids: PidFiles,
        added: Callable[[str], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._added = added
        self._logs = logs
        self._pids = pids
        self._keys = SecretFile(settings.run_dir / "secrets.json", environ)
        self._filed = sources.load_file(settings.config) if settings.config else {}
        self._children: dict[str, Child] = {}
        self._record: StackRecord | None = None

    async def run(self) -> None:
        """Run the stack until cancelled, which ends it in good order.

        Raises ConfigError before anything is started, StackError.
        """
        write_certificate(*certificate(self._settings.run_dir), datetime.now(UTC))
        services = check([*chain.from_iterable(self._services(_SOME_BROKER))])
        check_free(self._settings.needed_ports())
        await check_databases(services)
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
            {
                **prefer_file(variables, self._environ, filed),
                "AMQP_URL": amqp_url,
                **config,
                **self._added(name),
            },
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

    async def _describe(self, where: BrokerUrls) -> StackRecord:
        ports = self._settings.ports
        gateway_url = _local(ports["GATEWAY_PORT"])
        admin_token = self._keys.get("GATEWAY_ADMIN_TOKEN")
        return StackRecord(
            gateway_url=gateway_url,
            admin_token=admin_token,
            client_key=await client_key(gateway_url, admin_token, self._keys),
            amqp_url=where.amqp_url,
            management_url=where.management_url,
            smtp_host="127.0.0.1",
            smtp_port=ports["SMTP_PORT"],
            mailbox_url=_local(ports["MAILBOX_PORT"]),
            client_id=_CLIENT_ID,
            submission_port=ports["INBOUND_SUBMISSION_PORT"],
            submission_tls_port=ports["INBOUND_SUBMISSION_TLS_PORT"],
            report_port=ports["INBOUND_REPORT_PORT"],
            console_url=_local(ports["CONSOLE_PORT"]),
            console_token=self._keys.get("CONSOLE_TOKEN"),
        )

    def _write_record(self) -> None:
        if self._record is None:  # not up yet
            return
        pids = {name: self._children[name].pid for name in SERVICES}
        health = {name: f"{self._health(name)}/healthz" for name in SERVICES}
        write_record(self._settings.run_dir / "stack.json", self._record, pids, health)

    def _forget(self) -> None:
        self._record = None
        (self._settings.run_dir / "stack.json").unlink(missing_ok=True)

    def _health(self, service: str) -> str:
        return _local(self._settings.ports[health_port(service)])


async def _stop_all(group: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop(child.program.grace) for child in group))


def _local(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def write_record(
    path: Path, record: StackRecord, pids: Mapping[str, int | None], health: Mapping[str, str]
) -> None:
    """Write the record, with the services' process ids and health URLs."""
    services = {name: {"pid": pid, "health_url": health[name]} for name, pid in pids.items()}
    write_private(path, json.dumps(asdict(record) | {"services": services}, indent=2) + "\n")


async def client_key(gateway_url: str, admin_token: str, keys: SecretFile) -> str:
    """Register a client, or return the key from its registration. Raises StackError."""
    headers = {"Authorization": f"Bearer {admin_token}"}
    try:
        async with aiohttp.ClientSession(gateway_url, headers=headers) as session:
            return await _client_key(session, keys)
    except aiohttp.ClientError as error:
        raise StackError(f"the gateway does not register a client: {error}") from error


async def _client_key(session: aiohttp.ClientSession, keys: SecretFile) -> str:
    known = keys.find(_CLIENT_KEY)
    key = await _register(session)
    if key is None and known is not None:
        return known
    if key is None:  # its key is lost: the gateway shows it once only
        async with session.delete(f"/v1/clients/{_CLIENT_ID}"):
            key = await _register(session)
    if key is None:
        raise StackError("the gateway registers no client: see its log")
    keys.put(_CLIENT_KEY, key)
    return key


async def _register(session: aiohttp.ClientSession) -> str | None:
    """Return the new key, None when the client is registered already."""
    async with session.post("/v1/clients", json={"id": _CLIENT_ID}) as response:
        if response.status == HTTPStatus.CONFLICT:
            return None
        response.raise_for_status()
        return str((await response.json())["api_key"])


def announcement(record: StackRecord, run_dir: str) -> str:
    """Return the addresses, and three commands to try. Pure."""
    return f"""
Postrider is up.

  gateway    {record.gateway_url}
  mailbox    {record.mailbox_url}
  console    {record.console_url}, token: console_token in stack.json
  SMTP       {record.smtp_host}:{record.smtp_port}, to the mailbox
  submission {_submission(record)}
             user {record.client_id}, password: its key, client_key in stack.json
  reports    {record.smtp_host}:{record.report_port}, about mails that came back
  RabbitMQ   {record.management_url or "as given by AMQP_URL"}
  files      {run_dir}: stack.json has all addresses and keys, logs/ has the logs

Send a mail, have a code sent, look at what arrived:

  {_curl(record, "messages", _MAIL)}

  {_curl(record, "otp", _CODE)}

  curl -s '{record.mailbox_url}/api/messages?to=you@inbox.example'

Ctrl-C ends all of it.
"""


def _submission(record: StackRecord) -> str:
    host = record.smtp_host
    return f"{host}:{record.submission_port} (STARTTLS), {host}:{record.submission_tls_port} (TLS)"


def _curl(record: StackRecord, resource: str, body: str) -> str:
    return (
        f"curl -s {record.gateway_url}/v1/{resource} \\\n"
        f"    -H 'Authorization: Bearer {record.client_key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'"
    )
