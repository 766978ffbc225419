"""One stack a run directory; what a killed one left is ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.process import PidFiles
from ops.stack import lock
from ops.stack.errors import StackError

_HOLDER = """
import pathlib, signal, sys
from ops.stack import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def _holder(run_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLDER, str(run_dir)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_stack_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    """The line says who runs and how to end it."""
    with _holder(tmp_path) as first:
        with pytest.raises(StackError, match=rf"process {first.pid}\).*make down"):
            lock.held(tmp_path).__enter__()
        first.kill()


def test_a_killed_stack_holds_nothing(tmp_path: Path) -> None:
    """The kernel frees the lock of a launcher that was killed with -9."""
    with _holder(tmp_path) as first:
        first.kill()

    with lock.held(tmp_path):
        pass


def test_the_running_stack_is_asked_to_end(tmp_path: Path) -> None:
    """`make down` in another terminal is as good as Ctrl-C."""
    with _holder(tmp_path) as first:
        ended = lock.end_holder(tmp_path, within=10)

    assert ended
    assert first.returncode == -15


def test_nothing_is_ended_where_nothing_runs(tmp_path: Path) -> None:
    """An id in an old lock file is not trusted."""
    with lock.held(tmp_path):
        pass

    assert not lock.end_holder(tmp_path, within=1)
    assert os.getpid()


def test_leftovers_of_a_killed_stack_are_ended(tmp_path: Path) -> None:
    """Services outlive a launcher that was killed; the next one ends them."""
    (tmp_path / "stack.json").touch()
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command, start_new_session=True) as service:  # noqa: S603 - our own
        PidFiles(tmp_path / "pids").add("sender", service.pid)

        ended = lock.clear(tmp_path)

    assert ended == ["sender"]
    assert not (tmp_path / "stack.json").exists()
