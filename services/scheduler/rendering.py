"""Mails are made in a process of their own, with a limit of time and memory for each.

The styles and tables of a content type can take hours and gigabytes to be made into a mail, in
libraries that nothing interrupts. The kernel then ends that process, and the next one goes on with
the mail that follows.
"""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import Any, BinaryIO

import orjson

from services.scheduler.content import Content, MailRequest
from shared.runtime.limited_process import LimitedProcess, limit_memory, limited_time
from shared.template import RenderedMail, VariableMistake

MAX_MAIL_SECONDS = 0.25  # of a processor, for one mail
MAX_STRIKES = 3  # mails of one version of a content type that take too much
MAX_STRUCK = 1000  # content types
MAX_LINE_BYTES = 32 << 20  # of the pipe: far longer than a mail in JSON
# By the limit of time, and by libraries that find no memory or recurse too deeply.
_ENDS = {-signal.SIGPROF, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS}


class RenderingError(Exception):
    """A mail was not made, although nothing may be wrong with it."""


Rendered = RenderedMail | VariableMistake | RenderingError
RenderMails = Callable[[Sequence[MailRequest]], Awaitable[Sequence[Rendered]]]


class Renderer:
    """The process that makes mails, started when it is needed and whenever it has ended.

    Of a content type whose mails end it again and again no more mails are made, until it has a new
    version: those of all others would wait for it.
    """

    def __init__(self) -> None:
        self._strikes = Counter[Content]()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process = LimitedProcess(__spec__.name, MAX_LINE_BYTES)

    @property
    def waiting(self) -> int:
        """The calls that wait for their mails."""
        return self._waiting

    async def render(self, requests: Sequence[MailRequest]) -> Sequence[Rendered]:
        """Return the mails in their order, each or what is wrong with it.

        A cancellation ends the process, which could else answer a question that nobody has asked.
        """
        self._waiting += 1
        try:
            async with self._turn:
                return await self._render_all(requests)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the process."""
        await self._process.close()

    async def _render_all(self, requests: Sequence[MailRequest]) -> Sequence[Rendered]:
        made = list[Rendered]()
        try:
            while len(made) < len(requests):
                left = requests[len(made) :]
                part = [*takewhile(self._is_wanted, left)]
                made += await self._render(part) if part else [_too_much()]
        except BaseException:
            await self.close()
            raise
        return made

    def _is_wanted(self, request: MailRequest) -> bool:
        return self._strikes[request.content] < MAX_STRIKES

    async def _render(self, requests: Sequence[MailRequest]) -> Sequence[Rendered]:
        """Return the mails up to the one at which the process ends, at least one."""
        output = await self._process.ask(_encoded(requests))
        made = list[Rendered]()
        for _ in requests:
            line = await output.readline()
            if not line.endswith(b"\n"):
                return [*made, await self._ended(requests[len(made)].content)]
            made.append(_decoded(line))
        return made

    async def _ended(self, content: Content) -> Rendered:
        code = await self._process.wait()
        if code not in _ENDS:
            return RenderingError(f"the process that makes mails ended with {code}")
        if len(self._strikes) >= MAX_STRUCK:
            self._strikes.clear()
        self._strikes[content] += 1
        return _too_much()


@asynccontextmanager
async def rendering() -> AsyncIterator[Renderer]:
    """Open a process that makes mails, and end it."""
    renderer = Renderer()
    try:
        yield renderer
    finally:
        await renderer.close()


def _too_much() -> VariableMistake:
    return VariableMistake("the mail takes too long or too much memory to be made")


def _encoded(requests: Sequence[MailRequest]) -> bytes:
    """Return a line with the content types, each once, and the mails with the places of theirs."""
    contents = list(dict.fromkeys(each.content for each in requests))
    places = {each: place for place, each in enumerate(contents)}
    mails = [(places[each.content], *each[1:]) for each in requests]
    return orjson.dumps([contents, mails], default=tuple) + b"\n"


def _decoded(line: bytes) -> Rendered:
    match orjson.loads(line):
        case {"mistake": str(text)}:
            return VariableMistake(text)
        case {"error": str(text)}:
            return RenderingError(text)
        case fields:
            return RenderedMail(**fields)


def answers(lines: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the mails that lines ask for, or what is wrong with them."""
    for line in lines:
        contents, mails = orjson.loads(line)
        known = [Content(*each) for each in contents]
        for place, variables, url, locale in mails:
            yield _answer(MailRequest(known[place], variables, url, locale))


def _answer(asked: MailRequest) -> dict[str, Any]:
    try:
        with limited_time(MAX_MAIL_SECONDS):
            mail = asked.make()
    except VariableMistake as error:
        return {"mistake": str(error)}
    except MemoryError:
        return {"mistake": str(_too_much())}
    except Exception as error:  # noqa: BLE001 -- the next mail may be right
        return {"error": type(error).__name__}
    return {"subject": mail.subject, "text": mail.text, "html": mail.html}


def main() -> None:
    """Answer on the standard output until the standard input ends, as with its parent."""
    limit_memory()
    for each in answers(sys.stdin.buffer):
        sys.stdout.buffer.write(orjson.dumps(each) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
