"""What the numbers were measured on; without it they say nothing."""

import os
import platform
import subprocess
from pathlib import Path

from ops.broker import Management

_CPUS = Path("/proc/cpuinfo")
_ROOT = Path(__file__).parent.parent
_GIT_SECONDS = 10.0


def describe(broker: Management | None = None) -> str:
    """Give one line: commit, CPU, Python, and RabbitMQ if it is part of the measurement."""
    parts = [
        f"commit {_commit()}",
        f"{len(os.sched_getaffinity(0))} cores of {_cpu()}",
        f"Python {platform.python_version()}",
        *([f"RabbitMQ {_rabbitmq(broker)}"] if broker else []),
    ]
    return " · ".join(parts)


def load() -> str:
    """Tell how many processes wanted a core in the last minute: ours, and those that disturb."""
    return f"load average {os.getloadavg()[0]:.1f}"


def _cpu() -> str:
    lines = _CPUS.read_text().splitlines() if _CPUS.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(  # noqa: S603 -- fixed arguments
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _rabbitmq(broker: Management) -> str:
    overview = broker.request("GET", "/overview")
    return str(overview.get("rabbitmq_version")) if isinstance(overview, dict) else "unknown"
