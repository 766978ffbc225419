"""A tethered program ends with the process that started it."""

import os
import signal
import subprocess
import sys

import pytest

from ops import tether
from ops.process import ProcessRecord
from tests.processes import waiting

_WAIT = "import signal; print('up', flush=True); signal.pause()"
# Starts the tethered program and says its process id.
_PARENT = """
import subprocess, sys
from ops.tether import tethered
child = subprocess.Popen(
    tethered((sys.executable, "-c", sys.argv[1])), stdout=subprocess.PIPE, start_new_session=True
)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
_LATE = "print('ran')"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_it_ends_with_its_parent(number: signal.Signals) -> None:
    """It ends after SIGKILL of its parent, in a session of its own, too."""
    command = (sys.executable, "-c", _PARENT, _WAIT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        child = ProcessRecord.of(int(parent.stdout.readline()))
        assert child is not None
        parent.send_signal(number)

        assert child.gone(within=30)


def test_it_is_the_very_process_that_was_started() -> None:
    """Its process id is that of the started process."""
    code = "import os; print(os.getpid(), flush=True); raise SystemExit(7)"
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        tether.tethered((sys.executable, "-c", code)), stdout=subprocess.PIPE, text=True
    ) as child:
        output, _ = child.communicate()

    assert (int(output), child.returncode) == (child.pid, 7)


def test_a_parent_that_died_before_the_tie() -> None:
    """It does not run if its parent has ended before."""
    program = tether.tethered((sys.executable, "-c", _LATE))
    with waiting(_WAIT) as other:
        command = [str(other.pid) if part == str(os.getpid()) else part for part in program]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603

    assert ran.stdout == ""


def test_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems the program is started as it is."""
    monkeypatch.setattr("platform.system", lambda: "Darwin")

    assert tether.tethered(("program", "flag")) == ("program", "flag")
