"""One stack a run directory; what a killed one left is ended."""

from pathlib import Path

import pytest

from ops.process import PidFiles
from ops.stack import lock
from ops.stack.errors import StackError
from tests.processes import waiting

_HOLDER = """
import pathlib, signal, sys
from ops.stack import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""
_SERVICE = "import signal; print('up', flush=True); signal.pause()"


def test_a_second_stack_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    """The line says who runs and how to end it."""
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
    """`make down` in another terminal is as good as Ctrl-C."""
    with waiting(_HOLDER, tmp_path) as first:
        assert lock.end_holder(tmp_path, within=10)
        assert first.wait(10) == -15


def test_nothing_is_ended_where_nothing_runs(tmp_path: Path) -> None:
    """An id in an old lock file is not trusted."""
    with lock.held(tmp_path):
        pass

    # The file names this process.
    assert not lock.end_holder(tmp_path, within=1)


def test_leftovers_of_a_killed_stack_are_ended(tmp_path: Path) -> None:
    """Services outlive a launcher that was killed; the next one ends them."""
    (tmp_path / "stack.json").touch()
    with waiting(_SERVICE) as service:
        PidFiles(tmp_path / "pids").add("sender", service.pid)

        assert lock.clear(tmp_path) == ["sender"]
        assert service.wait(10) == -15
    assert not (tmp_path / "stack.json").exists()
