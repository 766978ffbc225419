"""A process that was started here, recognised again even by a later launcher."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the 1st, 2nd, ... restart
_STEADY = 30.0  # seconds of life after which a death counts as the first again
_POLL = 0.05  # seconds; a process that is not our child can only be polled


@dataclass(frozen=True)
class ProcessRecord:
    """A process id with the time it started, since the system gives ids again.

    `started` is in clock ticks since boot: field 22 of proc(5) `/proc/<pid>/stat`.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Look at a process id; None when nothing runs under it (a zombie does not run)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The command's name stands in parentheses and may hold spaces and parentheses itself.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def read(cls, line: str) -> Self | None:
        """Read what `str` wrote; None for anything else, such as a half-written line."""
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
        """Signal the process and the group it leads, when it still is the one we know."""
        if not self.runs:
            return
        with suppress(ProcessLookupError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def gone(self, within: float) -> bool:
        """Wait for its end, at most `within` seconds; tell whether it came."""
        deadline = time.monotonic() + within
        while self.runs:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def end(self, within: float) -> None:
        """Ask it to end; kill it when it has not after `within` seconds."""
        self.signal(signal.SIGTERM)
        if not self.gone(within):
            self.signal(signal.SIGKILL)
            self.gone(within)


def ended(code: int) -> str:
    """Describe the end of a process by the exit code that `subprocess` gives."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


class Restarts:
    """The pauses before a process that died is started again, longer with each death in a row."""

    def __init__(self) -> None:
        self.deaths = 0

    def pause(self, lived: float) -> float:
        """Count a death after so many seconds of life; return the seconds until the restart."""
        self.deaths = 1 if lived > _STEADY else self.deaths + 1
        return _PAUSES[min(self.deaths, len(_PAUSES)) - 1]


class PidFiles:
    """What was started, a file each, so that a later launcher can end what an earlier one left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, name: str, pid: int) -> None:
        """Remember a process, once more when it was started anew under the same name."""
        process = ProcessRecord.of(pid)
        if process is None:  # it is gone already: its starter will notice
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path(name).write_text(f"{process}\n")

    def remove(self, name: str) -> None:
        """Forget a process that ended."""
        self._path(name).unlink(missing_ok=True)

    def running(self) -> dict[str, ProcessRecord]:
        """Tell which of the remembered still run, the last started first."""
        return dict(self._running())

    def all_gone(self, within: float) -> bool:
        """Wait at most `within` seconds for all to end by themselves; return whether they did."""
        deadline = time.monotonic() + within
        gone = [each.gone(deadline - time.monotonic()) for _, each in self._running()]
        return all(gone)

    def end_all(self, within: float) -> list[str]:
        """End what still runs, the last started first, and forget all; tell the names."""
        ended = []
        for name, process in self._running():
            process.end(within)
            ended.append(name)
        for path in self._directory.glob("*.pid"):
            path.unlink(missing_ok=True)
        return ended

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.pid"

    def _running(self) -> Iterator[tuple[str, ProcessRecord]]:
        for _, path in sorted(self._dated(), reverse=True):
            # Its launcher, if that still runs, takes away the file of a process that ended.
            with suppress(FileNotFoundError):
                process = ProcessRecord.read(path.read_text())
                if process and process.runs:
                    yield path.stem, process

    def _dated(self) -> Iterator[tuple[int, Path]]:
        for path in self._directory.glob("*.pid"):
            with suppress(FileNotFoundError):
                yield path.stat().st_mtime_ns, path
