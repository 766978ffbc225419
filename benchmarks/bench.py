"""The ground of all measurements: a RabbitMQ and a directory of their own, real processes."""

import asyncio
import os
import platform
import pstats
import re
import secrets
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import orjson

from ops import node, ports, topology
from ops.broker import BrokerAddress, BrokerPorts, Management
from ops.process import PidFiles
from ops.run_directory import scratch
from shared.topology import RUNNING, Owner

ROOT = Path(__file__).parent.parent
RUNS = ROOT / ".run" / "bench"
START_SECONDS = 60.0  # for a process to answer
STOP_SECONDS = 30.0
_GIT_SECONDS = 10.0
_POLL_SECONDS = 0.05  # of a port that is not open yet
_MAX_OUTPUT_CHARS = 1000  # of a process that failed, in its error
_PROFILED_FUNCTIONS = 15
_MEMORY_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)  # proc(5): the unit is always kB
_KIB = 1024


class BenchError(Exception):
    """A measurement that cannot be made, or that counted wrong."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: the directory of its files, and its broker.

    Processes get nothing of our environment, so that a user's settings change no measurement.
    """

    directory: Path
    address: BrokerAddress

    @asynccontextmanager
    async def vhost(self, *owners: Owner) -> AsyncIterator[str]:
        """Create a vhost with the queues of `owners`, or of all; the value is its AMQP URL."""
        name = f"bench-{secrets.token_hex(4)}"
        management = self.address.management
        await asyncio.to_thread(management.add_vhost, name)
        url = self.address.amqp_url(name)
        await topology.declare(url, owners or RUNNING)
        yield url
        await asyncio.to_thread(management.remove_vhost, name)

    @asynccontextmanager
    async def running(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> AsyncIterator[Process]:
        """Run a process until the block is left; its output goes to a file of its name."""
        with self.output(name).open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env={"LANG": "C.UTF-8", **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a terminal's Ctrl-C is ours to pass on
            )
        self._pids.add(name, process.pid)
        try:
            yield process
        finally:
            await _end(process)
            self._pids.remove(name)

    async def ask(self, module: str, task: Mapping[str, Any], within: float) -> Any:  # noqa: ANN401 -- JSON
        """Run `module` in a process of its own: a JSON task goes in, a JSON answer comes out.

        Raises BenchError when it fails or is not done `within` seconds.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, cwd=ROOT, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        self._pids.add(module, process.pid)
        try:
            async with asyncio.timeout(within):
                answer, _ = await process.communicate(orjson.dumps(task))
        except TimeoutError:
            raise BenchError(f"{module} was not done in {within:g} s") from None
        finally:
            await _end(process)
            self._pids.remove(module)
        if process.returncode:
            raise BenchError(f"{module} failed with exit code {process.returncode}")
        return orjson.loads(answer)

    async def listening(self, name: str, process: Process, port: int) -> None:
        """Wait until a process accepts connections. Raises BenchError with its last output."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(_POLL_SECONDS)
        output = self.output(name).read_text(errors="replace")
        raise BenchError(f"{name} did not start: {output[-_MAX_OUTPUT_CHARS:].strip()}")

    def output(self, name: str) -> Path:
        """Return the file of a process's output."""
        return self.directory / f"{name}.out"

    @property
    def _pids(self) -> PidFiles:
        return PidFiles(self.directory / "pids")


@contextmanager
def opened() -> Iterator[Bench]:
    """Start a broker in a directory that is cleared at the end. Raises BrokerError."""
    node.prepare()
    with scratch(RUNS) as directory:
        address = BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
        rabbit = directory / "rabbit"
        broker = node.private(rabbit, address, PidFiles(rabbit / "pids"))
        try:
            broker.start()
            yield Bench(directory, address)
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
    """Return the most octets that a running process ever had in memory."""
    return memory_field(_status(pid), "VmHWM")


def resident_memory(pid: int) -> int:
    """Return the octets that a running process has in memory."""
    return memory_field(_status(pid), "VmRSS")


def memory_field(status: str, name: str) -> int:
    """Return a field of `/proc/<pid>/status` in octets, 0 where Linux does not tell it."""
    found = dict(_MEMORY_FIELD.findall(status))
    return int(found.get(name, 0)) * _KIB


def _status(pid: int) -> str:
    path = Path(f"/proc/{pid}/status")
    return path.read_text() if path.exists() else ""


def profiled(module: str, into: Path) -> list[str]:
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
