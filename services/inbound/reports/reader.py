"""Mails are read in processes of their own, with a limit of time and memory for each mail.

What a mail costs to parse is its author's choice, in libraries that nothing interrupts. The kernel
then ends the process, and the mail counts as unreadable.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import orjson

from services.inbound import metrics
from services.inbound.reports.reading import Action, MailKind, Reading, RecipientBlock, read
from shared.runtime.limited_process import LimitedProcess, limit_memory, limited_time

MAX_MAIL_SECONDS = 2.0  # of a processor, for one mail
MAX_WAIT_SECONDS = 30.0  # for its reading, on a busy machine
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


class _ReaderProcess(LimitedProcess):
    """One process, with one mail at a time."""

    def __init__(self) -> None:
        super().__init__(__spec__.name, MAX_ANSWER_BYTES)

    async def read(self, content: bytes) -> Reading:
        """Return the meaning of a mail. A cancellation ends the process, which has an answer."""
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                answers = await self.ask(len(content).to_bytes(LENGTH_BYTES) + content)
                line = await answers.readline()
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


def _decoded(line: bytes) -> Reading:
    kind, blocks, reporter, feedback_type, paths, headers, text, is_cut = orjson.loads(line)
    found = tuple(
        RecipientBlock(Action(action), tuple(addresses), *texts)
        for action, addresses, *texts in blocks
    )
    texts = (reporter, feedback_type, tuple(paths))
    fields = [(name, value) for name, value in headers]
    return Reading(MailKind(kind), found, *texts, fields, text, is_cut)


def answer(content: bytes) -> bytes:
    """Return the meaning of a mail as a line."""
    try:
        with limited_time(MAX_MAIL_SECONDS):
            found = read(content)
    except Exception:  # noqa: BLE001 -- the next mail may be right
        found = Reading(MailKind.UNREADABLE)
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
    limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
