"""The lock of a run directory, and the processes that a killed stack left there."""

import signal
from pathlib import Path

import pytest

from ops.process import PidFiles
from ops.stack import lock
from ops.stack.settings import StackError
from tests.processes import waiting

_HOLDER = """
import pathlib, signal, sys
from ops.stack import lock
with lock.held(pathlib.Path(sys.argv[1])):
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


def test_a_second_stack_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    """The error names the process of the first stack, and how to end it."""
    with (
        waiting(_HOLDER, tmp_path) as first,
        pytest.raises(StackError, match=rf"process {first.pid}\).*make down"),
    ):
        lock.held(tmp_path).__enter__()


def test_a_killed_stack_holds_nothing(tmp_path: Path) -> None:
    """The kernel frees the lock of a launcher that was killed with -9."""
    with waiting(_HOLDER, tmp_path):
        pass  # it is killed now

    with lock.held(tmp_path):
        pass


def test_the_running_stack_is_asked_to_end(tmp_path: Path) -> None:
    """`make down` in another terminal does what Ctrl-C does."""
    with waiting(_HOLDER, tmp_path) as first:
        assert lock.end_holder(tmp_path, within=10)
        assert first.wait(10) == -15


def test_nothing_is_ended_where_nothing_runs(tmp_path: Path) -> None:
    """The process id in an old lock file is not signalled."""
    with lock.held(tmp_path):
        pass

    # The file names this process.
    assert not lock.end_holder(tmp_path, within=1)


def test_a_stack_that_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow end is reported, and after the time limit the process to kill."""
    monkeypatch.setattr(lock, "_LONG_SECONDS", 0.1)
    said: list[str] = []
    with (
        waiting(_DEAF_HOLDER, tmp_path) as first,
        pytest.raises(StackError, match=f"process {first.pid} does not end: kill it"),
    ):
        lock.end_holder(tmp_path, 0.3, said.append)

    assert said == ["postrider: still ending; 'make down' again ends it at once"]


@pytest.mark.parametrize("service", [_SERVICE, _DEAF_SERVICE], ids=["told again", "killed"])
def test_leftovers_of_a_killed_stack_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """A leftover process has time after its first SIGTERM, and then gets another."""
    monkeypatch.setattr(lock, "_SOON_SECONDS", 0.1)
    said: list[str] = []
    (tmp_path / "stack.json").touch()
    with waiting(service) as left:
        PidFiles(tmp_path / "pids").add("sender", left.pid)

        assert lock.clear(tmp_path, 0.2, said.append) == ["sender"]
        assert left.wait(10) == (-15 if service == _SERVICE else -9)
    assert said == ["postrider: waiting 0.2 seconds for sender to end"]
    assert not (tmp_path / "stack.json").exists()


def test_leftovers_that_end_by_themselves(tmp_path: Path) -> None:
    """Leftover processes that end in time get no second SIGTERM."""
    said: list[str] = []
    with waiting(_FINISHING) as left:
        PidFiles(tmp_path / "pids").add("sender", left.pid)
        left.send_signal(signal.SIGTERM)

        assert lock.clear(tmp_path, 30, said.append) == ["sender"]
        assert left.wait(10) == 0
    assert said == []
