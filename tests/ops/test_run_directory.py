"""The lock of a run directory, and what a killed run left there."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from ops import run_directory
from ops.process import PidFiles, ProcessRecord
from ops.run_directory import scratch
from ops.stack.settings import StackError
from tests.processes import started, waiting
from tests.waiting import PATIENCE_SECONDS

_HOLDER = """
import pathlib, signal, sys
from ops.run_directory import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""
_DEAF = "import signal; signal.signal(15, signal.SIG_IGN);"
_DEAF_HOLDER = _DEAF + _HOLDER
# Ends well after one SIGTERM, and badly after two.
_FINISHING = """
import os, signal, threading
told = []
def tell(*_):
    told.append(1)
    if len(told) == 2:
        os._exit(1)
    threading.Timer(0.3, os._exit, (0,)).start()
signal.signal(15, tell)
print("up", flush=True)
while True:
    signal.pause()
"""
_SERVICE = "import signal; print('up', flush=True); signal.pause()"
_DEAF_SERVICE = _DEAF + _SERVICE
_RUN = """
import pathlib, sys
from ops.run_directory import scratch
with scratch(pathlib.Path(sys.argv[1])):
    pass
"""


def test_a_second_stack_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    """The error names the process of the first stack, and how to end it."""
    with (
        waiting(_HOLDER, tmp_path) as first,
        pytest.raises(StackError, match=rf"process {first.pid}\).*make down"),
    ):
        run_directory.held(tmp_path).__enter__()


def test_a_killed_stack_holds_nothing(tmp_path: Path) -> None:
    """The kernel frees the lock of a launcher that was killed with -9."""
    with waiting(_HOLDER, tmp_path):
        pass  # it is killed now

    with run_directory.held(tmp_path):
        pass


def test_the_running_stack_is_asked_to_end(tmp_path: Path) -> None:
    """`make down` in another terminal does what Ctrl-C does."""
    with waiting(_HOLDER, tmp_path) as first:
        assert run_directory.end_holder(tmp_path, within=PATIENCE_SECONDS)
        assert first.wait(PATIENCE_SECONDS) == -15


def test_nothing_is_ended_where_nothing_runs(tmp_path: Path) -> None:
    """The process id in an old lock file is not signalled."""
    with run_directory.held(tmp_path):
        pass

    # The file names this process.
    assert not run_directory.end_holder(tmp_path, within=1)


def test_a_stack_that_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow end is reported, and after the time limit the process to kill."""
    monkeypatch.setattr(run_directory, "_LONG_SECONDS", 0.1)
    said: list[str] = []
    with (
        waiting(_DEAF_HOLDER, tmp_path) as first,
        pytest.raises(StackError, match=f"process {first.pid} does not end: kill it"),
    ):
        run_directory.end_holder(tmp_path, 0.3, said.append)

    assert said == ["postrider: still ending; 'make down' again ends it at once"]


@pytest.mark.parametrize("service", [_SERVICE, _DEAF_SERVICE], ids=["told again", "killed"])
def test_leftovers_of_a_killed_stack_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """A leftover process has time after its first SIGTERM, and then gets another."""
    monkeypatch.setattr(run_directory, "_SOON_SECONDS", 0.1)
    said: list[str] = []
    (tmp_path / "stack.json").touch()
    with waiting(service) as left:
        PidFiles(tmp_path / "pids").add("sender", left.pid)

        assert run_directory.clear(tmp_path, 0.2, said.append) == ["sender"]
        assert left.wait(PATIENCE_SECONDS) == (-15 if service == _SERVICE else -9)
    assert said == ["postrider: waiting 0.2 seconds for sender to end"]
    assert not (tmp_path / "stack.json").exists()


def test_leftovers_that_end_by_themselves(tmp_path: Path) -> None:
    """Leftover processes that end in time get no second SIGTERM."""
    said: list[str] = []
    with waiting(_FINISHING) as left:
        PidFiles(tmp_path / "pids").add("sender", left.pid)
        left.send_signal(signal.SIGTERM)

        assert run_directory.clear(tmp_path, 30, said.append) == ["sender"]
        assert left.wait(PATIENCE_SECONDS) == 0
    assert said == []


def test_a_scratch_directory_is_gone_after_the_run(tmp_path: Path) -> None:
    """A run clears its own directory."""
    with scratch(tmp_path) as directory:
        (directory / "file").touch()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_ended_and_deleted(tmp_path: Path) -> None:
    """Processes, directories and links of a killed run are removed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    killed = tmp_path / "runs" / "1"
    (killed / "node" / "pids").mkdir(parents=True)
    (killed / "data").symlink_to(elsewhere)
    (killed / "owner").write_text("1 1")  # process 1 started at another time
    with waiting(_SERVICE) as left:
        PidFiles(killed / "node" / "pids").add("node", left.pid)
        with scratch(tmp_path / "runs"):
            pass

        assert left.wait(PATIENCE_SECONDS) == -15
    assert not killed.exists()
    assert not elsewhere.exists()


async def test_runs_that_start_together_clear_up_one_after_the_other(tmp_path: Path) -> None:
    """Runs that start together do not disturb each other's clearing."""
    for number in range(1, 41):
        pids = tmp_path / str(number) / "node" / "pids"
        pids.mkdir(parents=True)
        for name in ("epmd", "rabbitmq"):
            (pids / f"{name}.pid").write_text("1 1")  # process 1 started at another time
    command = ("-c", _RUN, tmp_path)
    async with (
        asyncio.timeout(60),
        started(*command) as one,
        started(*command) as two,
        started(*command) as three,
    ):
        assert [await run.wait() for run in (one, two, three)] == [0, 0, 0]

    assert await asyncio.to_thread(os.listdir, tmp_path) == []


def test_a_run_beside_this_one_is_let_alone(tmp_path: Path) -> None:
    """The directory of a running run is left alone."""
    beside = tmp_path / str(os.getppid())
    beside.mkdir()
    (beside / "owner").write_text(str(ProcessRecord.of(os.getppid())))
    with scratch(tmp_path):
        pass

    assert beside.exists()
