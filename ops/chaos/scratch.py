"""A stack of one's own for faults, and the ways to do something to its processes."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

from ops import ports, run_directory
from ops.broker import BrokerAddress, BrokerError
from ops.chaos.cluster import Cluster, clustered
from ops.chaos.flows import StackAddresses
from ops.credentials import SecretFile
from ops.node import RabbitNode, RabbitPrograms
from ops.postgres import (
    CRASH_SAFE,
    REPLICATED,
    PostgresAccount,
    PostgresPrograms,
    PostgresServer,
)
from ops.process import PidFiles, ProcessRecord
from ops.stack.child import ServiceLogs
from ops.stack.settings import PORTS, SERVICES, StackSettings, certificate
from ops.stack.supervisor import Supervisor

BROKER: Final = "rabbitmq"
RELAY: Final = "simulator"
_NO_NODE: Final = "no rabbitmq-server on this machine: apt install rabbitmq-server"
_UP_SECONDS: Final = 180.0
_BACK_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.05
_CLOCK_SOURCE: Final = Path(__file__).with_name("clock.c")
_CLOCK_BYTES: Final = 8
_OURS: Final = ("AMQP_URL", "DATABASE_URL", "CONFIG_FILE", "RUN_DIR", "RABBITMQ_")


class StackKind(StrEnum):
    """The servers under a stack."""

    PLAIN = "plain"  # one RabbitMQ, SQLite
    POSTGRES = "postgres"  # one RabbitMQ, PostgreSQL
    STANDBY = "standby"  # one RabbitMQ, PostgreSQL with a standby
    CLOCKS = "clocks"  # one RabbitMQ, SQLite, and services whose clocks can be set
    CLUSTER = "cluster"  # three nodes of RabbitMQ, SQLite


class SkippedError(Exception):
    """This machine cannot do it. The message says why."""


@dataclass(frozen=True, slots=True)
class ScratchStack:
    """A running stack, by its directory and the variables that it was started with."""

    run_dir: Path
    environ: Mapping[str, str]
    postgres: PostgresServer | None = None
    standby: PostgresServer | None = None
    cluster: Cluster | None = None
    added: Callable[[str], Mapping[str, str]] = lambda _: {}  # variables of a service

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of `stack.json`."""
        found: Mapping[str, Any] = json.loads((self.run_dir / "stack.json").read_text())
        return found

    @property
    def addresses(self) -> StackAddresses:
        """Where the stack takes its load."""
        record, (trusted, _) = self.record, certificate(self.run_dir)
        return StackAddresses(
            gateway_url=record["gateway_url"],
            mailbox_url=record["mailbox_url"],
            client_id=record["client_id"],
            submission_tls_port=record["submission_tls_port"],
            certificate=trusted,
            client_key=record["client_key"],
        )

    def process(self, name: str) -> ProcessRecord | None:
        """Return the running process of a service, the broker or the relay."""
        return PidFiles(self.run_dir / "pids").running().get(name)

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one of them. Raises SkippedError if it does not run."""
        process = self.process(name)
        if process is None:
            raise SkippedError(f"{name} does not run as a process of this machine")
        process.signal(number)

    def limit_files(self, name: str, octets: int | None) -> None:
        """Set the size that a file of a service may grow to; None is no limit.

        A write beyond it fails (setrlimit(2)), as on a full disk. The limit holds for the process.
        """
        if (process := self.process(name)) is None:
            return
        most = psutil.RLIM_INFINITY
        limited = psutil.Process(process.pid)
        limited.rlimit(psutil.RLIMIT_FSIZE, (most if octets is None else octets, most))

    def set_clocks(self, names: Iterable[str], seconds: int) -> None:
        """Set the wall clocks of services so many seconds ahead of the machine's."""
        for name in names:
            path = _clock(self.run_dir, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)  # not a new one: it is mapped
            os.write(file, seconds.to_bytes(_CLOCK_BYTES, sys.byteorder, signed=True))
            os.close(file)

    async def control(self, *words: str) -> None:
        """Run rabbitmqctl on the broker. Raises SkippedError when the broker is no node here."""
        programs = RabbitPrograms.find()
        if programs is None:
            raise SkippedError(_NO_NODE)
        node = RabbitNode(self.run_dir / "rabbitmq", self._broker, programs)
        try:
            await asyncio.to_thread(node.control, *words)
        except BrokerError as error:
            raise SkippedError(str(error)) from error

    async def end_broker(self, number: signal.Signals) -> None:
        """Send a signal to the broker, and wait until its process is gone; the stack starts it."""
        process = self.process(BROKER)
        self.send_signal(BROKER, number)

        async def is_gone() -> bool:
            return process is None or not process.runs

        await until(is_gone, _BACK_SECONDS)

    async def broker_is_back(self) -> None:
        """Wait until the broker takes connections. Raises TimeoutError."""
        await until(lambda: asyncio.to_thread(self._broker.answers), _BACK_SECONDS)

    async def restart_postgres(self) -> None:
        """End PostgreSQL at once, as a crash does, and start it again on its data."""
        assert self.postgres is not None  # noqa: S101 -- by the kind of the stack
        await asyncio.to_thread(self.postgres.restart)

    def signal_postgres(self, number: signal.Signals) -> None:
        """Send a signal to each process of PostgreSQL, of the primary if there is a standby."""
        assert self.postgres is not None  # noqa: S101 -- by the kind of the stack
        self.postgres.send_signal(number)

    async def promote_standby(self) -> None:
        """Make the standby of PostgreSQL the primary, as an operator or a program for that does."""
        assert self.standby is not None  # noqa: S101 -- by the kind of the stack
        await asyncio.to_thread(self.standby.promote)

    @property
    def _broker(self) -> BrokerAddress:
        settings = StackSettings.load(self.environ)
        keys = SecretFile(self.run_dir / "secrets.json", {})
        return BrokerAddress(settings.broker_ports, keys.passwords(["admin"])["admin"])


@asynccontextmanager
async def opened(kind: StackKind, parent: Path) -> AsyncIterator[ScratchStack]:
    """Run a stack in a new directory under `parent`, with ports, broker and database of its own.

    Raises SkippedError when the machine has not what it needs, StackError when it does not start.
    """
    async with AsyncExitStack() as stack:
        home = stack.enter_context(run_directory.scratch(parent))
        environ = _environ(home / "run")
        scratch = ScratchStack(home / "run", environ)
        match kind:
            case StackKind.POSTGRES:
                postgres = _postgres(home / "postgres", CRASH_SAFE)
                stack.callback(postgres.discard)
                await asyncio.to_thread(postgres.start)
                environ["DATABASE_URL"] = postgres.account.url()
                scratch = replace(scratch, postgres=postgres)
            case StackKind.STANDBY:
                postgres = _postgres(home / "postgres", REPLICATED)
                standby = _postgres(home / "standby", CRASH_SAFE, postgres.account.password)
                for each in (standby, postgres):
                    stack.callback(each.discard)
                await asyncio.to_thread(postgres.start)
                await asyncio.to_thread(standby.follow, postgres.account)
                environ["DATABASE_URL"] = postgres.account.url(standby=standby.account.port)
                scratch = replace(scratch, postgres=postgres, standby=standby)
            case StackKind.CLOCKS:
                library = await asyncio.to_thread(_clock_library, home)
                scratch = replace(scratch, added=partial(_own_clock, scratch.run_dir, library))
                scratch.set_clocks(SERVICES, 0)
            case StackKind.CLUSTER:
                if RabbitPrograms.find() is None:
                    raise SkippedError(_NO_NODE)
                cluster = await stack.enter_async_context(clustered(home / "cluster"))
                environ["AMQP_URL"] = cluster.amqp_url
                environ["RABBITMQ_MANAGEMENT_URL"] = cluster.management_url
                scratch = replace(scratch, cluster=cluster)
        await stack.enter_async_context(_running(scratch))
        yield scratch


def _environ(run_dir: Path) -> dict[str, str]:
    """Return the variables of a stack with free ports of its own, and no settings of another."""
    prefixes = (*_OURS, *(f"{each.upper()}_" for each in SERVICES))
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(prefixes)}
    chosen = zip(PORTS, map(str, ports.unused(len(PORTS))), strict=True)
    return {**inherited, **dict(chosen), "RUN_DIR": str(run_dir)}


def _postgres(record: Path, options: Sequence[str], password: str | None = None) -> PostgresServer:
    programs = PostgresPrograms.find()
    if programs is None:
        raise SkippedError("no PostgreSQL on this machine: apt install postgresql")
    (port,) = ports.unused(1)
    account = PostgresAccount(port, password) if password else PostgresAccount(port)
    return PostgresServer(record, account, programs, options)


def _clock(run_dir: Path, service: str) -> Path:
    return run_dir / "clocks" / service


def _own_clock(run_dir: Path, library: Path, service: str) -> Mapping[str, str]:
    """Return the variables by which a service has a wall clock of its own, see clock.c."""
    return {"LD_PRELOAD": str(library), "CLOCK_FILE": str(_clock(run_dir, service))}


def _clock_library(folder: Path) -> Path:
    """Compile the library that sets clocks; return its path."""
    compiler, library = shutil.which("cc"), folder / "clock.so"
    if compiler is None:
        raise SkippedError("no C compiler on this machine: apt install gcc libc6-dev")
    command = (compiler, "-O2", "-shared", "-fPIC", "-o", library, _CLOCK_SOURCE)
    subprocess.run(command, check=True)  # noqa: S603 -- a program found on this machine
    return library


@asynccontextmanager
async def _running(scratch: ScratchStack) -> AsyncIterator[None]:
    scratch.run_dir.mkdir(parents=True, exist_ok=True)
    settings = StackSettings.load(scratch.environ)
    pids = PidFiles(scratch.run_dir / "pids")
    with (
        run_directory.held(scratch.run_dir),
        (scratch.run_dir / "up.out").open("w") as output,
        closing(ServiceLogs(scratch.run_dir / "logs", output)) as logs,
    ):
        supervisor = Supervisor(settings, scratch.environ, logs, pids, scratch.added)
        running = asyncio.create_task(supervisor.run(), name="stack")
        try:
            await _until_up(scratch, running)
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def _until_up(scratch: ScratchStack, running: asyncio.Task[None]) -> None:
    """Wait for `stack.json`. Raises what ended the stack."""

    async def is_up() -> bool:
        if running.done():
            running.result()
        return (scratch.run_dir / "stack.json").exists()

    await until(is_up, _UP_SECONDS)


async def until(holds: Callable[[], Awaitable[bool]], within: float) -> None:
    """Look again and again until it holds. Raises TimeoutError after `within` seconds."""
    give_up = time.monotonic() + within
    while not await holds():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not within {within:g} seconds")
        await asyncio.sleep(_POLL_SECONDS)
