"""Files that hold secrets: nobody but their owner may read them."""

import os
import stat
import warnings
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SettingsWarning(UserWarning):
    """A risk in the settings that an operator should see; the service starts all the same."""


def check_private(path: Path) -> Path:
    """Return the path of a file that only its owner can read. Raise ValueError for another one.

    Docker and Kubernetes mount secrets as root's, for all users of a container to read (0444 or
    0644), in a file system that is read-only there. Its user cannot change that, and nobody else
    is in the container. Such a file is a SettingsWarning where all users can read it; Kubernetes
    lets a group alone read it where `fsGroup` is set. Raises OSError.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & _OTHERS:
        return path
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if _can_be_mended(path, status):
        raise ValueError(f"others can read {path} (mode {mode}): chmod 600 {path}")
    if status.st_mode & stat.S_IRWXO:
        warnings.warn(f"all users can read {path} (mode {mode})", SettingsWarning, stacklevel=2)
    return path


def _can_be_mended(path: Path, status: os.stat_result) -> bool:
    owns = os.geteuid() in {0, status.st_uid}
    return owns and not os.statvfs(path).f_flag & os.ST_RDONLY
