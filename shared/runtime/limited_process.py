"""A process that runs a module for a service, with limits of time and memory.

Libraries that nothing interrupts can take hours and gigabytes for one input. The kernel then ends
that process, and a new one goes on with the next input.
"""

import asyncio
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

MAX_MEMORY_BYTES = 1 << 30


class LimitedProcess:
    """The process of a module, started when it is needed and whenever it has ended.

    It reads questions on its standard input until that ends, as with its parent, and answers in
    lines of at most `max_line_bytes`.
    """

    def __init__(self, module: str, max_line_bytes: int) -> None:
        self._module, self._max_line_bytes = module, max_line_bytes
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process, None before the first question."""
        return None if self._process is None else self._process.pid

    async def ask(self, question: bytes) -> asyncio.StreamReader:
        """Send a question, and return the stream of the answers.

        A line without its end means that the process has ended. After a cancellation `close` it:
        it could else answer a question that nobody has asked.
        """
        process = await self._started()
        cast("asyncio.StreamWriter", process.stdin).write(question)
        return cast("asyncio.StreamReader", process.stdout)

    async def wait(self) -> int:
        """Wait for the end of a process that was asked, and return its code."""
        return await cast("Process", self._process).wait()

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            # A session of its own: a Ctrl-C at a terminal is for the service, which ends it.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                stdin=PIPE,
                stdout=PIPE,
                limit=self._max_line_bytes,
                start_new_session=True,
            )
        return self._process


def limit_memory() -> None:
    """Limit the memory of this process, which leaves no image of it when it is ended."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """End this process when the block takes so many seconds of a processor."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
