"""TCP ports of this machine."""

import random
import socket
from contextlib import suppress
from itertools import count, islice

import psutil

# Below Linux's range for outgoing connections (32768-60999), which could take a port meanwhile.
_RANGE = range(20000, 32000)
# Each process goes on from a place of its own. Two that chose at random would now and then choose
# the same port in the seconds before the first one's server listens there.
_numbers = count(random.SystemRandom().randrange(len(_RANGE)))


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


def unused(amount: int) -> list[int]:
    """Return distinct ports that are free now, and that this process was not given lately.

    Raises RuntimeError when there are too few.
    """
    tried = (_RANGE[number % len(_RANGE)] for number in islice(_numbers, len(_RANGE)))
    free = list(islice(filter(is_free, tried), amount))
    if len(free) < amount:
        raise RuntimeError(f"fewer than {amount} free ports from {_RANGE.start} to {_RANGE.stop}")
    return free


def holder(port: int) -> str | None:
    """Return the name of the process that listens on a port, None where it is not visible."""
    with suppress(psutil.Error):  # it has ended, or the system shows no other user's
        for each in psutil.net_connections("tcp"):
            listens = each.status == psutil.CONN_LISTEN and each.laddr
            if listens and listens.port == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (process {each.pid})"
    return None
