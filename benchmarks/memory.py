"""How much memory a process has, in octets, as Linux counts it; 0 where it does not tell."""

import re
from pathlib import Path

_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)  # proc(5): the unit is always kB
_KIB = 1024


def peak(pid: int) -> int:
    """Tell the most that a running process ever had in memory."""
    return read(_status(pid), "VmHWM")


def resident(pid: int) -> int:
    """Tell what a running process has in memory."""
    return read(_status(pid), "VmRSS")


def read(status: str, name: str) -> int:
    """Read a field of `/proc/<pid>/status`."""
    return next((int(kib) * _KIB for field, kib in _FIELD.findall(status) if field == name), 0)


def _status(pid: int) -> str:
    path = Path(f"/proc/{pid}/status")
    return path.read_text() if path.exists() else ""
