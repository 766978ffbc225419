"""A directory for one run; a later run clears it if the run was killed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.docker import remove_recorded
from ops.process import PidFiles, ProcessRecord

_OWNER = "owner"
_GRACE_SECONDS = 5.0  # for a leftover process, before it is killed


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Create a directory under `parent` for this process; clear it at the end.

    Directories of runs that have ended are cleared first, with the processes and containers that
    are recorded in them.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _alone(parent):
        _clear_leftovers(parent)
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
            _clear(directory)


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Wait until no other process clears directories here.

    The kernel frees the lock when its holder ends, in whatever way.
    """
    handle = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _clear_leftovers(parent: Path) -> None:
    """Clear the directories of runs that were killed."""
    for directory in parent.glob("[0-9]*"):
        owner = directory / _OWNER
        process = ProcessRecord.read(owner.read_text()) if owner.exists() else None
        if process is None or not process.runs:
            _clear(directory)


def _clear(directory: Path) -> None:
    """End the recorded processes and containers, then delete the directory and links' targets."""
    for pids in (path for path in _below(directory) if path.name == "pids"):
        PidFiles(pids).end_all(_GRACE_SECONDS)
    for record in (path for path in _below(directory) if path.name == "container"):
        remove_recorded(record.parent)
    for link in (path for path in _below(directory) if path.is_symlink()):
        shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def _below(directory: Path) -> Iterator[Path]:
    # Unlike Path.rglob, it does not fail when a process deletes a folder meanwhile.
    for folder, folders, files in os.walk(directory):
        yield from (Path(folder, name) for name in (*folders, *files))
