"""The SMTP server that all mail goes to: `smtp-sink` of Debian's postfix, else one of our own.

A sink slower than the client would be what is measured. `smtp-sink` is made for measuring clients,
in C; it can be unpacked from its package without being installed.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import RUNS, Bench
from benchmarks.errors import BenchError
from ops import ports

_UNPACKED = RUNS / "postfix"
_FETCH_SECONDS = 60.0
_CHECK_SECONDS = 5.0
_CANNOT_LOAD = 127  # what the dynamic loader exits with when a library is missing
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

    async def reach(self, count: int, client: Process) -> None:
        """Wait until it has counted as far as that, while `client` runs and mails come in.

        Raises BenchError.
        """
        loop = asyncio.get_running_loop()
        seen, patience = self.count(), loop.time() + _STALL_SECONDS
        while seen < count:
            await asyncio.sleep(_LOOK_SECONDS)
            before, seen = seen, self.count()
            if seen > before:
                patience = loop.time() + _STALL_SECONDS
            if client.returncode is not None or loop.time() > patience:
                raise BenchError(f"{count - seen} mails did not come: the client stopped")


@asynccontextmanager
async def serving(bench: Bench, program: Program) -> AsyncIterator[Sink]:
    """Run a sink until the block is left. Raises BenchError when it does not start."""
    [port] = ports.unused(1)
    async with bench.running("sink", program.command(port), program.environment) as process:
        await bench.listening("sink", process, port)
        yield Sink(program.name, port, bench.output("sink"))


def find() -> Program:
    """Find the best there is: the machine's, one unpacked before or now, our own."""
    installed = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin")
    if installed:
        return _smtp_sink(Path(installed), {})
    unpacked = _UNPACKED / "usr" / "sbin" / "smtp-sink"
    libraries = {"LD_LIBRARY_PATH": str(_UNPACKED / "usr" / "lib" / "postfix")}
    if not unpacked.exists():
        _unpack()
    if unpacked.exists() and _runs(unpacked, libraries):
        return _smtp_sink(unpacked, libraries)
    return own()


def own() -> Program:
    """Give the sink that needs nothing."""
    return Program("our own sink in Python", [sys.executable, "-m", "benchmarks.discard", ""])


def _smtp_sink(path: Path, environment: Mapping[str, str]) -> Program:
    # It refuses to serve as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return Program(
        "smtp-sink of postfix", [str(path), "-c", *user, "127.0.0.1:"], [_BACKLOG], environment
    )


def _unpack() -> None:
    """Fetch Debian's package and unpack it here; where that fails there is still our own."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return
    print("fetching Debian's package postfix for its smtp-sink; nothing is installed")
    fetched = RUNS / "package"
    fetched.mkdir(parents=True, exist_ok=True)
    try:
        _run(["apt-get", "-qq", "download", "postfix"], fetched)
        for package in fetched.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(_UNPACKED)], fetched)
    except (OSError, subprocess.SubprocessError):
        print("that failed; our own sink does it")
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def _run(command: Sequence[str], where: Path) -> None:
    subprocess.run(  # noqa: S603 -- fixed programs
        command, cwd=where, check=True, capture_output=True, timeout=_FETCH_SECONDS
    )


def _runs(program: Path, environment: Mapping[str, str]) -> bool:
    try:
        tried = subprocess.run(  # noqa: S603 -- the program we unpacked; it tells its usage
            [program], env=environment, capture_output=True, check=False, timeout=_CHECK_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode != _CANNOT_LOAD
