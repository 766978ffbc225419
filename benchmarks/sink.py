"""The SMTP server that all mail goes to: `smtp-sink` of Debian's postfix, else one of our own.

A sink slower than the client would be what is measured. `smtp-sink` is made for measuring clients,
in C; it can be unpacked from its package without being installed.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.package import Programs
from ops import ports

_STALL_SECONDS = 30.0  # without a mail, the start of a client included
_LOOK_SECONDS = 0.02  # between two looks at the counter
_BACKLOG = "256"
_COUNTED = re.compile(rb"mesg=(\d+)")
_TAIL_BYTES = 200  # of the counter's file: more than one line


@dataclass(frozen=True, slots=True)
class Program:
    """What to run; `before` and `after` surround the port in its arguments."""

    name: str
    before: Sequence[str]
    after: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, port: int) -> list[str]:
        """Give the command that serves on a port of 127.0.0.1."""
        last = self.before[-1]
        return [*self.before[:-1], f"{last}{port}", *self.after]


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink; it counts the mails that it took to their end, since it started."""

    name: str
    port: int
    counter: Path

    def count(self) -> int:
        """Tell how many mails there were."""
        with self.counter.open("rb") as file:
            file.seek(max(0, self.counter.stat().st_size - _TAIL_BYTES))
            found = _COUNTED.findall(file.read())
        return int(found[-1]) if found else 0

    def expect(self, count: int) -> None:
        """See that there were as many and no more. Raises BenchError."""
        if self.count() != count:
            raise BenchError(f"{self.count()} mails at {self.name} instead of {count}")

    async def reach(self, count: int, client: Process) -> float:
        """Wait until it has counted as far as that, while `client` runs and mails come in.

        Give how many came a second, from the last look before the first of them. Raises
        BenchError.
        """
        loop = asyncio.get_running_loop()
        begun = last = loop.time()
        start = seen = self.count()
        while seen < count:
            if client.returncode is not None or loop.time() > last + _STALL_SECONDS:
                raise BenchError(f"{count - seen} mails did not come: the client stopped")
            if seen == start:
                begun = loop.time()
            await asyncio.sleep(_LOOK_SECONDS)
            before, seen = seen, self.count()
            if seen > before:
                last = loop.time()
        return (seen - start) / (last - begun) if seen > start else 0.0


@asynccontextmanager
async def serving(bench: Bench, program: Program) -> AsyncIterator[Sink]:
    """Run a sink until the block is left. Raises BenchError when it does not start."""
    [port] = ports.unused(1)
    async with bench.running("sink", program.command(port), program.environment) as process:
        await bench.listening("sink", process, port)
        yield Sink(program.name, port, bench.output("sink"))


def best(programs: Programs | None) -> Program:
    """Give `smtp-sink` if it is there, or else our own."""
    return smtp_sink(programs) if programs else own()


def own() -> Program:
    """Give the sink that needs nothing."""
    return Program("our own sink in Python", [sys.executable, "-m", "benchmarks.discard", ""])


def smtp_sink(programs: Programs) -> Program:
    """Give the sink of Postfix."""
    # It refuses to serve as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return Program(
        "smtp-sink of postfix",
        [str(programs.commands / "smtp-sink"), "-c", *user, "127.0.0.1:"],
        [_BACKLOG],
        programs.environment,
    )
