"""A directory for one run, whose leftovers a later run clears when the run was killed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.docker import remove_recorded
from ops.process import PidFiles, Process

_OWNER = "owner"
_PATIENCE = 5.0  # seconds for a leftover process to end before it is killed


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Make a directory under `parent` for this process; clear it at the end.

    Directories of runs that are no more are cleared first, with the processes and containers that
    are recorded in them; those of runs beside this one are left alone.
    """
    parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(parent)
    directory = parent / str(os.getpid())
    young = parent / f".{os.getpid()}"  # not to be seen before it has an owner
    young.mkdir()
    (young / _OWNER).write_text(str(Process.of(os.getpid())))
    young.rename(directory)
    try:
        yield directory
    finally:
        clear(directory)


def clear_leftovers(parent: Path) -> None:
    """Clear the directories of runs that were killed."""
    for directory in parent.glob("[0-9]*"):
        owner = directory / _OWNER
        process = Process.read(owner.read_text()) if owner.exists() else None
        if process is None or not process.runs:
            clear(directory)


def clear(directory: Path) -> None:
    """End what is recorded under a directory and delete it, links' targets included."""
    for pids in directory.rglob("pids"):
        PidFiles(pids).end_all(_PATIENCE)
    for record in directory.rglob("container"):
        remove_recorded(record.parent)
    for link in (path for path in directory.rglob("*") if path.is_symlink()):
        shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
