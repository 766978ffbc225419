"""TCP ports of this machine."""

import random
import socket
from contextlib import suppress

import psutil

# Below Linux's range for outgoing connections (32768-60999), which could take a port meanwhile.
_RANGE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier run in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def unused(count: int) -> list[int]:
    """Return distinct ports that are free now. Raises RuntimeError when there are too few."""
    free: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, k=len(_RANGE)):
        if len(free) == count:
            return free
        if is_free(port):
            free.append(port)
    raise RuntimeError(f"fewer than {count} free ports from {_RANGE.start} to {_RANGE.stop}")


def holder(port: int) -> str | None:
    """Return the name of the process that listens on a port, None where it is not visible."""
    with suppress(psutil.Error):  # it has ended, or the system shows no other user's
        for each in psutil.net_connections("tcp"):
            listens = each.status == psutil.CONN_LISTEN and each.laddr
            if listens and listens.port == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (process {each.pid})"
    return None
