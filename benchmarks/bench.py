"""What all measurements stand on: a RabbitMQ and a directory of their own, real processes."""

import asyncio
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.errors import BenchError
from ops import brokers, ports, topology
from ops.broker import BrokerAddress, BrokerPorts
from ops.process import PidFiles
from ops.scratch import scratch

ROOT = Path(__file__).parent.parent
RUNS = ROOT / ".run" / "bench"
START_SECONDS = 60.0  # for a process to answer
STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.05  # between two looks at a starting process
_TAIL_CHARS = 1000  # of a process's output, told when it failed


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: where its files are and its broker.

    Processes get nothing of our environment, so that a user's settings change no measurement.
    """

    directory: Path
    address: BrokerAddress

    @asynccontextmanager
    async def vhost(self) -> AsyncIterator[str]:
        """Make a vhost with the topology that services find; the value is its AMQP URL."""
        name = f"bench-{secrets.token_hex(4)}"
        management = self.address.management
        await asyncio.to_thread(management.add_vhost, name)
        url = self.address.amqp_url(name)
        await topology.declare(url)
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
        """Wait until a process accepts connections. Raises BenchError with its last words."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise BenchError(f"{name} did not start: {self.last_words(name)}")

    def output(self, name: str) -> Path:
        """Name the file that has what a process said."""
        return self.directory / f"{name}.out"

    def last_words(self, name: str) -> str:
        """Give the end of what a process said."""
        return self.output(name).read_text(errors="replace")[-_TAIL_CHARS:].strip()

    @property
    def _pids(self) -> PidFiles:
        return PidFiles(self.directory / "pids")


@contextmanager
def opened() -> Iterator[Bench]:
    """Start a broker in a directory that is cleared at the end. Raises BrokerError."""
    brokers.prepare()
    with scratch(RUNS) as directory:
        address = BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
        rabbit = directory / "rabbit"
        broker = brokers.private(rabbit, address, PidFiles(rabbit / "pids"))
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
