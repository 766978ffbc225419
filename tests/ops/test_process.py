"""Processes are recognised by their id and their start, so that no other one is signalled."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.process import PidFiles, ProcessRecord, Restarts, tethered
from tests.processes import waiting
from tests.waiting import PATIENCE_SECONDS

_WAIT_FOR_EVER = "import signal; print('up', flush=True); signal.pause()"
_IGNORE_SIGTERM = "import signal; signal.signal(15, signal.SIG_IGN); " + _WAIT_FOR_EVER
# Starts the tethered program and says its process id.
_PARENT = """
import subprocess, sys
from ops.process import tethered
child = subprocess.Popen(
    tethered((sys.executable, "-c", sys.argv[1])), stdout=subprocess.PIPE, start_new_session=True
)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
_LATE = "print('ran')"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Start a process that waits until it is ended."""
    with waiting(_WAIT_FOR_EVER) as process:
        yield process


def test_a_process_is_read_back_as_it_was_written() -> None:
    """A record survives its text."""
    process = ProcessRecord.of(os.getpid())

    assert process is not None
    assert ProcessRecord.read(str(process)) == process
    assert process.runs


@pytest.mark.parametrize("line", ["", "12", "twelve 13", "12 13 14"])
def test_a_damaged_line_names_no_process(line: str) -> None:
    """A half-written record is ignored."""
    assert ProcessRecord.read(line) is None


def test_another_process_under_the_same_id_is_let_alone(child: subprocess.Popen[str]) -> None:
    """A process with the id of a recorded one is never signalled."""
    process = ProcessRecord.of(child.pid)
    assert process is not None
    stranger = replace(process, started=process.started - 1)

    stranger.end(within=1)

    assert not stranger.runs
    assert child.poll() is None


def test_all_that_is_recorded_is_ended_the_last_started_first(tmp_path: Path) -> None:
    """Processes are ended in the reverse order of their start."""
    pids = PidFiles(tmp_path)
    with waiting(_WAIT_FOR_EVER) as broker, waiting(_WAIT_FOR_EVER) as service:
        pids.add("broker", broker.pid)
        pids.add("service", service.pid)

        assert pids.end_all(within=PATIENCE_SECONDS) == ["service", "broker"]
        assert [child.wait(10) for child in (service, broker)] == [-15, -15]
    assert PidFiles(tmp_path).end_all(within=PATIENCE_SECONDS) == []


def test_a_file_that_goes_meanwhile_names_no_process(
    child: subprocess.Popen[str], tmp_path: Path
) -> None:
    """A record that disappears during the search is ignored."""
    pids = PidFiles(tmp_path)
    pids.add("first", child.pid)
    pids.add("second", child.pid)
    looking = pids._running()
    found = [next(looking)]
    pids.remove("first")

    assert [name for name, _ in [*found, *looking]] == ["second"]


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed."""
    with waiting(_IGNORE_SIGTERM) as deaf:
        PidFiles(tmp_path).add("deaf", deaf.pid)
        PidFiles(tmp_path).end_all(within=0.2)

        assert deaf.wait(PATIENCE_SECONDS) == -9


def test_each_death_in_a_row_waits_longer() -> None:
    """The pause grows with each crash in a row, up to a limit."""
    restarts = Restarts()

    assert [restarts.pause(lived=1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert restarts.crashes == 7


def test_a_steady_life_is_a_new_start() -> None:
    """A crash after a steady life has the first pause again."""
    restarts = Restarts()
    for _ in range(3):
        restarts.pause(lived=1)

    assert (restarts.pause(lived=31), restarts.crashes) == (0.5, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_tethered_program_ends_with_its_parent(number: signal.Signals) -> None:
    """A tethered program ends after SIGKILL of its parent, in a session of its own, too."""
    command = (sys.executable, "-c", _PARENT, _WAIT_FOR_EVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        child = ProcessRecord.of(int(parent.stdout.readline()))
        assert child is not None
        parent.send_signal(number)

        assert child.gone(within=PATIENCE_SECONDS)


def test_a_tethered_program_is_the_very_process_that_was_started() -> None:
    """The process id of a tethered program is that of the started process."""
    code = "import os; print(os.getpid(), flush=True); raise SystemExit(7)"
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        tethered((sys.executable, "-c", code)), stdout=subprocess.PIPE, text=True
    ) as child:
        output, _ = child.communicate()

    assert (int(output), child.returncode) == (child.pid, 7)


def test_a_parent_that_died_before_the_tie() -> None:
    """A tethered program does not run if its parent has ended before."""
    program = tethered((sys.executable, "-c", _LATE))
    with waiting(_WAIT_FOR_EVER) as other:
        command = [str(other.pid) if part == str(os.getpid()) else part for part in program]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603

    assert ran.stdout == ""


def test_nothing_is_tethered_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems than Linux the program is started as it is."""
    monkeypatch.setattr("platform.system", lambda: "Darwin")

    assert tethered(("program", "flag")) == ("program", "flag")
