"""TCP ports of this machine: is one free, who has it, which are free."""

import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Below Linux's ephemeral range (32768-60999), so that no outgoing connection takes one meanwhile.
_RANGE = range(20000, 32000)
_LISTEN = "0A"  # proc(5), net/tcp: the state of a listening socket


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier run in TIME_WAIT are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def unused(count: int) -> list[int]:
    """Choose distinct ports that are free now. Raises RuntimeError when there are too few."""
    free: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, k=len(_RANGE)):
        if len(free) == count:
            return free
        if is_free(port):
            free.append(port)
    raise RuntimeError(f"fewer than {count} free ports from {_RANGE.start} to {_RANGE.stop}")


def holder(port: int) -> str | None:
    """Name the process that listens on a port, as far as this user may see it."""
    inodes = set(_listening(port))
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def _listening(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"
