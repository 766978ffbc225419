"""A program that gets SIGTERM when its parent is gone, even if that was killed."""

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tethered(command: Sequence[str]) -> Sequence[str]:
    """Return a command that becomes `command`, tied to the thread of this process that starts it.

    The signal comes with the end of that very thread (prctl(2)). Only Linux has such a tie:
    elsewhere it is `command` itself.
    """
    if platform.system() != "Linux":
        return command
    # Without the site's modules it costs 20 ms. It is no `preexec_fn`, which may deadlock in a
    # process with threads.
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *command)


def _become(parent: int, command: Sequence[str]) -> None:
    """Tie this process to `parent`, then run `command` in its place."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # else it died before there was a tie
        os.execvp(command[0], list(command))  # noqa: S606 -- our own command


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
