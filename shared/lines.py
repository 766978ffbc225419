"""Lines that leave together, since each system call costs as much as making some lines."""

import asyncio
from typing import BinaryIO


class Lines:
    """A file to which the lines of one turn of the loop go at its end, and all others at once.

    A process that is killed loses at most those of its last turn.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._loop: asyncio.AbstractEventLoop | None = None  # that will send them
        self.write = file.write

    def flush(self) -> None:
        """Send what was written, at the end of the turn if there is one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # of another thread, or before or after the loop
            self._file.flush()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._send)

    def _send(self) -> None:
        self._loop = None
        self._file.flush()
