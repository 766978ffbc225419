"""The ground of all measurements: their plan, a RabbitMQ of their own, and real processes.

Run as a module this is one of the processes: it calls the function that it reads.
"""

import asyncio
import os
import pickle
import platform
import pstats
import re
import secrets
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from ops import node, ports
from ops.broker import BrokerAddress, BrokerPorts, Management
from ops.process import PidFiles
from ops.run_directory import scratch

ROOT = Path(__file__).parent.parent
RUNS = ROOT / ".run" / "bench"
START_SECONDS = 60.0  # for a process to answer
STOP_SECONDS = 30.0
CALL_SECONDS = 300.0
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
DATABASES = (SQLITE, POSTGRESQL)
# The settings of the services that are random.
SECRETS = [
    *("GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET", "OTP_KEY", "SEALING_KEY", "SUPPRESSION_KEY"),
    "LINK_KEY",
    "BOUNCE_KEY",
    "WEBHOOK_KEY",
]
_GIT_SECONDS = 10.0
_POLL_SECONDS = 0.05  # of a port that is not open yet
_MAX_OUTPUT_CHARS = 1000  # of a process that failed, in its error
_PROFILED_FUNCTIONS = 15
_KIB = 1024

T = TypeVar("T")


class BenchError(Exception):
    """A measurement that cannot be made, or that counted wrong."""


@dataclass(frozen=True)
class BenchPlan:
    """How much is measured: the options of the command line, and their defaults."""

    count: int = 5000
    repetitions: int = 3
    connections: int = 16
    callers: int = 32
    waiting: int = 100_000
    events: int = 60_000
    domains: Sequence[int] = (10_000, 1_000_000)
    known: int = 1_000_000
    due: int = 20_000
    databases: Sequence[str] = DATABASES
    length: int = 1  # of the mails: how many times the usual text
    chunking: bool = True  # whether the sender may use BDAT


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: the directory of its files, its broker, and the secrets of its services.

    Processes get nothing of our environment, so that a user's settings change no measurement. The
    service `profiled` runs under cProfile.
    """

    directory: Path
    address: BrokerAddress
    profiled: str | None = None
    secrets: Mapping[str, str] = field(
        default_factory=lambda: {name: secrets.token_hex(32) for name in SECRETS}
    )

    @asynccontextmanager
    async def running(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> AsyncIterator[Process]:
        """Run a process until the block is left; its output goes to a file of its name."""
        whole = {"LANG": "C.UTF-8", **environment}
        with self.output(name).open("wb") as out:
            async with self._child(
                name, command, env=whole, stdin=DEVNULL, stdout=out, stderr=out
            ) as process:
                yield process

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
        """Call a function of a module in a process of its own, and return its result.

        Raises BenchError when it fails, or is not done within CALL_SECONDS.
        """
        name = f"{function.__module__}.{function.__name__}"
        command = [sys.executable, "-m", "benchmarks.bench"]
        async with self._child(name, command, stdin=PIPE, stdout=PIPE) as process:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    answer, _ = await process.communicate(pickle.dumps((function, arguments)))
            except TimeoutError:
                raise BenchError(f"{name} was not done in {CALL_SECONDS:g} s") from None
        if process.returncode:
            raise BenchError(f"{name} failed with exit code {process.returncode}")
        result: T = pickle.loads(answer)  # noqa: S301 -- of our own process
        return result

    @asynccontextmanager
    async def _child(self, name: str, command: Sequence[str], **how: Any) -> AsyncIterator[Process]:  # noqa: ANN401 -- as of subprocess
        # In a session of its own: a terminal's Ctrl-C is ours to pass on.
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, start_new_session=True, **how
        )
        pids = PidFiles(self.directory / "pids")
        pids.add(name, process.pid)
        try:
            yield process
        finally:
            await _end(process)
            pids.remove(name)

    async def listening(self, name: str, process: Process, port: int) -> None:
        """Wait until a process accepts connections. Raises BenchError with its last output."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(_POLL_SECONDS)
        output = self.output(name).read_text(errors="replace")[-_MAX_OUTPUT_CHARS:].strip()
        ended = process.returncode is not None
        how = f"ended with exit code {process.returncode}" if ended else "does not listen"
        raise BenchError(f"{name} {how}, port {port}: {output}")

    def output(self, name: str) -> Path:
        """Return the file of a process's output."""
        return self.directory / f"{name}.out"


@contextmanager
def opened(profiled: str | None = None) -> Iterator[Bench]:
    """Start a broker in a directory that is cleared at the end. Raises BrokerError."""
    node.prepare()
    with scratch(RUNS) as directory:
        address = BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
        rabbit = directory / "rabbit"
        broker = node.private(rabbit, address, PidFiles(rabbit / "pids"))
        try:
            broker.start()
            yield Bench(directory, address, profiled)
        finally:
            broker.discard()


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def in_turns(
    kinds: Mapping[str, Callable[[], Awaitable[T]]], repetitions: int
) -> Mapping[str, Sequence[T]]:
    """Measure each kind so often, in turns, so that a disturbance of the machine meets all."""
    found: Mapping[str, list[T]] = {name: [] for name in kinds}
    for _ in range(repetitions):
        for name, measure in kinds.items():
            found[name].append(await measure())
    return found


def machine(broker: Management | None = None) -> str:
    """Describe commit, CPU, Python, and RabbitMQ if it is part of the measurement, in a line."""
    parts = [
        f"commit {_commit()}",
        f"{len(os.sched_getaffinity(0))} cores of {_cpu()}",
        f"Python {platform.python_version()}",
        *([f"RabbitMQ {_rabbitmq(broker)}"] if broker else []),
    ]
    return " · ".join(parts)


def load_average() -> str:
    """Describe how many processes wanted a core in the last minute, ours and others."""
    return f"load average {os.getloadavg()[0]:.1f}"


def peak_memory(pid: int) -> int:
    """Return the most octets that a running process ever had in memory, 0 without Linux."""
    status = Path(f"/proc/{pid}/status")
    text = status.read_text() if status.exists() else ""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)  # proc(5): always in kB
    return int(found[1]) * _KIB if found else 0


def profiling(module: str, into: Path) -> list[str]:
    """Return the command that runs a module and writes its profile at its end."""
    return [sys.executable, "-m", "cProfile", "-o", str(into), "-m", module]


def hotspots(profile: Path) -> str:
    """Return the functions in which a profiled process spent most time of its own.

    A profiled process is slower, short functions most of all: the order counts, not the sum.
    """
    text = StringIO()
    stats = pstats.Stats(str(profile), stream=text).strip_dirs().sort_stats("tottime")
    stats.print_stats(_PROFILED_FUNCTIONS)
    return text.getvalue()


def _cpu() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(  # noqa: S603 -- fixed arguments
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _rabbitmq(broker: Management) -> str:
    overview = broker.request("GET", "/overview")
    return str(overview.get("rabbitmq_version")) if isinstance(overview, dict) else "unknown"


if __name__ == "__main__":
    called, given = pickle.load(sys.stdin.buffer)  # noqa: S301 -- of our own process
    sys.stdout.buffer.write(pickle.dumps(uvloop.run(called(*given))))
