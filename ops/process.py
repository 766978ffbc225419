"""Processes that were started here, and are recognised again by a later launcher."""

import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_RESTART_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # before the 1st, 2nd, ... restart in a row
_STEADY_SECONDS = 30.0  # of life, after which the next crash counts as the first one
_POLL_SECONDS = 0.05  # a process that is not our child can only be polled
# Asks for SIGTERM at the end of the parent (PR_SET_PDEATHSIG is 1), then becomes the command.
_TETHER = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):  # else it has ended before the call of prctl
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class ProcessRecord:
    """A process id with the time of its start, since the system uses ids again.

    `started` is in hundredths of a second since boot: a time of day would change with the clock.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the process under an id, None when none runs there; a zombie does not run."""
        try:
            process = psutil.Process(pid)
            started = round(100 * (process.create_time() - psutil.boot_time()))
            gone = process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        except psutil.NoSuchProcess:
            return None
        return None if gone else cls(pid, started)

    @classmethod
    def read(cls, line: str) -> Self | None:
        """Parse what `str` wrote; return None for anything else, such as a half-written line."""
        pid, _, started = line.strip().partition(" ")
        if not (pid.isdecimal() and started.isdecimal()):
            return None
        return cls(int(pid), int(started))

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"

    @property
    def runs(self) -> bool:
        """Whether this very process still runs."""
        return ProcessRecord.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and the group that it leads, if it still runs."""
        if not self.runs:
            return
        with suppress(ProcessLookupError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def gone(self, within: float) -> bool:
        """Wait for its end, at most `within` seconds; return whether it has ended."""
        deadline = time.monotonic() + within
        while self.runs:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def end(self, within: float) -> None:
        """Send SIGTERM, and SIGKILL if it still runs after `within` seconds."""
        self.signal(signal.SIGTERM)
        if not self.gone(within):
            self.signal(signal.SIGKILL)
            self.gone(within)


def tethered(command: Sequence[str]) -> Sequence[str]:
    """Return a command that becomes `command`, and gets SIGTERM when its starting thread ends.

    The kernel sends the signal at the end of that thread, not of the process (prctl(2)). Only Linux
    does so: elsewhere the command is `command` itself.
    """
    if platform.system() != "Linux":
        return command
    # Without the site's modules it takes 20 ms. A `preexec_fn` may deadlock in a process with
    # threads.
    return (sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command)


def ended(code: int) -> str:
    """Describe the end of a process by the return code of `subprocess`."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


class Restarts:
    """The pauses before a crashed process is started again, longer with each crash in a row."""

    def __init__(self) -> None:
        self.crashes = 0

    def pause(self, lived: float) -> float:
        """Count a crash after `lived` seconds; return the seconds until the restart."""
        self.crashes = 1 if lived > _STEADY_SECONDS else self.crashes + 1
        return _RESTART_SECONDS[min(self.crashes, len(_RESTART_SECONDS)) - 1]


class PidFiles:
    """A file for each process that was started, so that a later launcher can end it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, name: str, pid: int) -> None:
        """Record a process; a restarted one replaces its record."""
        process = ProcessRecord.of(pid)
        if process is None:  # it has ended already, as its starter will notice
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path(name).write_text(f"{process}\n")

    def remove(self, name: str) -> None:
        """Remove the record of a process that has ended."""
        self._path(name).unlink(missing_ok=True)

    def running(self) -> dict[str, ProcessRecord]:
        """Return the recorded processes that still run, the last started first."""
        return dict(self._running())

    def all_gone(self, within: float) -> bool:
        """Wait at most `within` seconds for all to end by themselves; return whether they did."""
        deadline = time.monotonic() + within
        gone = [each.gone(deadline - time.monotonic()) for _, each in self._running()]
        return all(gone)

    def end_all(self, within: float) -> list[str]:
        """End what still runs, the last started first; return the names, and remove all records."""
        names = []
        for name, process in self._running():
            process.end(within)
            names.append(name)
        for path in self._directory.glob("*.pid"):
            path.unlink(missing_ok=True)
        return names

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.pid"

    def _running(self) -> Iterator[tuple[str, ProcessRecord]]:
        for _, path in sorted(self._dated(), reverse=True):
            # A launcher that still runs removes the file of a process that ends.
            with suppress(FileNotFoundError):
                process = ProcessRecord.read(path.read_text())
                if process and process.runs:
                    yield path.stem, process

    def _dated(self) -> Iterator[tuple[int, Path]]:
        for path in self._directory.glob("*.pid"):
            with suppress(FileNotFoundError):
                yield path.stat().st_mtime_ns, path
