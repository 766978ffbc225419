"""One stack a run directory, and what a killed one left there."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.docker import remove_recorded
from ops.process import PidFiles, ProcessRecord
from ops.stack.settings import StackError

_PATIENCE = 30.0  # seconds for a leftover process to end before it is killed
_SOON = 2.0  # seconds in which most leftovers end
_LONG = 10.0  # seconds; a stack with nothing in flight ends sooner
_POLL = 0.1  # seconds

Say = Callable[[str], None]


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Be the only stack in a run directory. Raises StackError when there is one already.

    The kernel frees the lock when its holder dies, however it dies.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with _path(run_dir).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(run_dir)
            pid = f" (process {holder.pid})" if holder else ""
            raise StackError(
                f"a stack runs here already{pid}: use it, end it with 'make down', "
                "or set RUN_DIR and the ports for a second one"
            ) from None
        file.truncate(0)
        file.write(str(ProcessRecord.of(os.getpid())))
        file.flush()
        yield


def clear(run_dir: Path, patience: float = _PATIENCE, say: Say = print) -> list[str]:
    """End what a killed stack left and return the names; only for the holder of the lock."""
    (run_dir / "stack.json").unlink(missing_ok=True)
    pids = PidFiles(run_dir / "pids")
    ended = list(pids.running())
    # The kernel has sent them SIGTERM (see `tether`); at a second one they would leave their work.
    if ended and not pids.all_gone(_SOON):
        say(f"postrider: waiting {patience:g} seconds for {', '.join(pids.running())} to end")
        pids.all_gone(patience)
    pids.end_all(patience)
    if container := remove_recorded(run_dir / "rabbitmq"):
        ended.append(container)
    return ended


def end_holder(run_dir: Path, within: float, say: Say = print) -> bool:
    """End the running stack in good order; return whether there was one.

    Called once more meanwhile, it ends at once. Raises StackError when it is not gone after
    `within` seconds.
    """
    holder = _holder(run_dir)
    if holder is None or not holder.runs or _is_free(run_dir):
        return False
    os.kill(holder.pid, signal.SIGTERM)
    if not _freed(run_dir, min(_LONG, within)):
        say("postrider: still ending; once more 'make down' ends it at once")
        if not _freed(run_dir, within - _LONG):
            raise StackError(f"process {holder.pid} does not end: kill it, then 'make down' again")
    return True


def _freed(run_dir: Path, within: float) -> bool:
    deadline = time.monotonic() + within
    while not _is_free(run_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _is_free(run_dir: Path) -> bool:
    with _path(run_dir).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _holder(run_dir: Path) -> ProcessRecord | None:
    try:
        return ProcessRecord.read(_path(run_dir).read_text())
    except FileNotFoundError:
        return None


def _path(run_dir: Path) -> Path:
    return run_dir / "stack.lock"
