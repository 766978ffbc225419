"""The directory of a run: its lock, and the processes and containers that a killed run left."""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.docker import remove_recorded
from ops.process import PidFiles, ProcessRecord
from ops.stack.settings import StackError

_GRACE_SECONDS = 30.0  # for a leftover process, before it is killed
_SCRATCH_GRACE_SECONDS = 5.0  # the same, in a directory that is deleted then
_SOON_SECONDS = 2.0  # in which most leftover processes end
_LONG_SECONDS = 10.0  # a stack without work in flight ends sooner
_POLL_SECONDS = 0.1
_OWNER = "owner"  # the file with the process of a scratch directory

Log = Callable[[str], None]


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a stack's directory. Raises StackError when another stack holds it.

    The kernel frees the lock when its holder ends, in whatever way.
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


def clear(run_dir: Path, patience: float = _GRACE_SECONDS, log: Log = print) -> list[str]:
    """End the processes that a killed stack left, and return their names. Needs the lock."""
    (run_dir / "stack.json").unlink(missing_ok=True)
    pids = PidFiles(run_dir / "pids")
    ended = list(pids.running())
    # The kernel has sent SIGTERM (see `tethered`); at a second one they would abandon their work.
    if ended and not pids.all_gone(_SOON_SECONDS):
        log(f"postrider: waiting {patience:g} seconds for {', '.join(pids.running())} to end")
        pids.all_gone(patience)
    pids.end_all(patience)
    if container := remove_recorded(run_dir / "rabbitmq"):
        ended.append(container)
    return ended


def end_holder(run_dir: Path, within: float, log: Log = print) -> bool:
    """End the running stack in good order; return whether there was one.

    A second call meanwhile ends it at once. Raises StackError when it still runs after `within`
    seconds.
    """
    holder = _holder(run_dir)
    if holder is None or not holder.runs or _is_free(run_dir):
        return False
    os.kill(holder.pid, signal.SIGTERM)
    if not _freed(run_dir, min(_LONG_SECONDS, within)):
        log("postrider: still ending; 'make down' again ends it at once")
        if not _freed(run_dir, within - _LONG_SECONDS):
            raise StackError(f"process {holder.pid} does not end: kill it, then 'make down' again")
    return True


def _freed(run_dir: Path, within: float) -> bool:
    deadline = time.monotonic() + within
    while not _is_free(run_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
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


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Create a directory under `parent` for this process; clear it at the end.

    Directories of runs that have ended are cleared first, with the processes and containers that
    are recorded in them.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _alone(parent):
        for left in parent.glob("[0-9]*"):
            owner = left / _OWNER
            process = ProcessRecord.read(owner.read_text()) if owner.exists() else None
            if process is None or not process.runs:
                _delete(left)
    directory = parent / str(os.getpid())
    temporary = parent / f".{os.getpid()}"  # hidden until it has an owner
    temporary.mkdir()
    (temporary / _OWNER).write_text(str(ProcessRecord.of(os.getpid())))
    temporary.rename(directory)
    try:
        yield directory
    finally:
        # While it is cleared, another run may take it for a leftover.
        with _alone(parent):
            _delete(directory)


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Wait until no other process clears directories here."""
    handle = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _delete(directory: Path) -> None:
    """End the recorded processes and containers, then delete the directory and links' targets."""
    # Unlike Path.rglob, it does not fail when a process deletes a folder meanwhile.
    walk = os.walk(directory)
    below = [Path(folder, name) for folder, *names in walk for each in names for name in each]
    for pids in (path for path in below if path.name == "pids"):
        PidFiles(pids).end_all(_SCRATCH_GRACE_SECONDS)
    for record in (path for path in below if path.name == "container"):
        remove_recorded(record.parent)
    for link in (path for path in below if path.is_symlink()):
        shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
