"""Lines for a log that leave together and never wait for their reader.

Each system call costs as much as making some lines. A pipe or terminal that nobody reads is full
after some hundred lines, and a process that waited for it would serve nobody (issue 10, A10).
"""

import asyncio
import atexit
import os
import select
import threading
from collections.abc import Callable

from shared.runtime import metrics

MAX_WAITING_BYTES = 1024 * 1024
RETRY_SECONDS = 0.01
END_SECONDS = 1.0  # that the last lines may wait when the process ends


class Lines:
    """Writes the lines of one turn of the loop at its end, and all others at once.

    Lines wait for their reader, up to MAX_WAITING_BYTES; more are dropped and counted. When it
    reads again, `dropped` makes the line that says how many lines are missing. A process that is
    killed loses the lines of its last turn, and those that wait.
    """

    def __init__(self, descriptor: int, dropped: Callable[[int], bytes]) -> None:
        self._descriptor = _unblocked(descriptor)
        self._dropped = dropped
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._waiting = bytearray()
        self._missing = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # that will send them
        atexit.register(self._end)

    def write(self, line: bytes) -> None:
        """Add a line, with its line break; without room for it, count it."""
        with self._lock:
            if len(self._waiting) + len(line) <= MAX_WAITING_BYTES:
                self._waiting += line
            else:
                self._drop(1)

    def flush(self) -> None:
        """Send what was written, at the end of the turn if there is one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # of another thread, or before or after the loop
            self._send()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._send_in, loop)

    def _send_in(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        self._send()
        if self._waiting:
            self._loop = loop
            loop.call_later(RETRY_SECONDS, self._send_in, loop)

    def _end(self) -> None:
        self._send(END_SECONDS)

    def _send(self, patience: float = 0.0) -> None:
        """Write as much as the reader takes; wait for it `patience` seconds at a time."""
        with self._lock:
            try:
                while self._next() and self._poll.poll(patience * 1000):
                    # A pipe that is ready takes as much as this without waiting (pipe(7)).
                    taken = os.write(self._descriptor, self._waiting[: select.PIPE_BUF])
                    del self._waiting[:taken]
            except BlockingIOError:
                pass
            except OSError:  # the reader has gone, or the disk is full: serving goes on
                self._drop(self._waiting.count(b"\n"))
                self._waiting.clear()

    def _next(self) -> bool:
        """Return whether there is something to write; after a gap that is the line about it."""
        if self._missing and not self._waiting:
            self._waiting += self._dropped(self._missing)
            self._missing = 0
        return bool(self._waiting)

    def _drop(self, count: int) -> None:
        self._missing += count
        metrics.LOG_LINES_DROPPED.inc(count)


def _unblocked(descriptor: int) -> int:
    """Return a descriptor of the same file of which writing never waits, where that is needed.

    A terminal takes less than it is given when it is ready for any. Its flag is set on a file of
    our own, since the one that was inherited is also the shell's.
    """
    if not os.isatty(descriptor):
        return descriptor
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return descriptor
