"""Mails are read in processes of their own, with a limit of time and memory for each mail.

What a mail costs to parse is its author's choice, in libraries that nothing interrupts. The kernel
then ends the process, and the mail counts as unreadable.
"""

import asyncio
import logging
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

import orjson

from services.inbound.reports import metrics
from services.inbound.reports.reading import Action, MailKind, Reading, RecipientBlock, read

MAX_MAIL_SECONDS = 2.0  # of a processor, for one mail
MAX_WAIT_SECONDS = 30.0  # for its reading, on a busy machine
MAX_MEMORY_BYTES = 1 << 30
LENGTH_BYTES = 4
MAX_ANSWER_BYTES = 4 << 20


class ReportReader:
    """Processes that read mails, each started when it is needed and whenever it has ended."""

    def __init__(self, processes: int) -> None:
        self._free: asyncio.LifoQueue[_ReaderProcess] = asyncio.LifoQueue()
        self._all = [_ReaderProcess() for _ in range(processes)]
        for each in self._all:
            self._free.put_nowait(each)

    async def read(self, content: bytes) -> Reading:
        """Return the meaning of a mail: unreadable, if it takes too much time or memory."""
        with metrics.READING.time():
            process = await self._free.get()
            try:
                return await process.read(content)
            finally:
                self._free.put_nowait(process)

    async def close(self) -> None:
        """End the processes."""
        for each in self._all:
            await each.close()


@asynccontextmanager
async def reading(processes: int) -> AsyncIterator[ReportReader]:
    """Open a reader, and end its processes."""
    reader = ReportReader(processes)
    try:
        yield reader
    finally:
        await reader.close()


class _ReaderProcess:
    """One process, with one mail at a time."""

    def __init__(self) -> None:
        self._process: Process | None = None

    async def read(self, content: bytes) -> Reading:
        """Return the meaning of a mail. A cancellation ends the process, which has an answer."""
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                line = await self._answer(content)
        except (TimeoutError, ConnectionError):
            line = b""
        except BaseException:
            await self.close()
            raise
        if line.endswith(b"\n"):
            return _decoded(line)
        metrics.READERS_ENDED.inc()
        await self.close()
        return Reading(MailKind.UNREADABLE)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def _answer(self, content: bytes) -> bytes:
        process = await self._started()
        stdin = cast("asyncio.StreamWriter", process.stdin)
        stdin.write(len(content).to_bytes(LENGTH_BYTES) + content)
        await stdin.drain()
        return await cast("asyncio.StreamReader", process.stdout).readline()

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            # A session of its own: a Ctrl-C at a terminal is for the service, which ends it.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __spec__.name),
                stdin=PIPE,
                stdout=PIPE,
                limit=MAX_ANSWER_BYTES,
                start_new_session=True,
            )
        return self._process


def _decoded(line: bytes) -> Reading:
    kind, blocks, reporter, feedback_type, paths = orjson.loads(line)
    found = tuple(
        RecipientBlock(Action(action), tuple(addresses), *texts)
        for action, addresses, *texts in blocks
    )
    return Reading(MailKind(kind), found, reporter, feedback_type, tuple(paths))


def answer(content: bytes) -> bytes:
    """Return the meaning of a mail as a line."""
    signal.setitimer(signal.ITIMER_PROF, MAX_MAIL_SECONDS)
    try:
        found = read(content)
    except Exception:  # noqa: BLE001 -- the next mail may be right
        found = Reading(MailKind.UNREADABLE)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    # A mail may hold half of a surrogate pair, which no JSON can.
    return orjson.dumps(_clean([*found]), default=tuple) + b"\n"


def _clean(value: object) -> object:
    if isinstance(value, str):
        return str(value).encode(errors="replace").decode()
    return [_clean(each) for each in value] if isinstance(value, list | tuple) else value


def serve(mails: BinaryIO, answers: BinaryIO) -> None:
    """Answer each mail, until there are no more."""
    while length := mails.read(LENGTH_BYTES):
        answers.write(answer(mails.read(int.from_bytes(length))))
        answers.flush()


def main() -> None:
    """Answer on the standard output until the standard input ends, as with its parent."""
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # its detectors may fail
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
