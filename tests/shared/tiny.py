"""A service as small as can be, for the tests of the lifecycle; it prints where it is."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from shared.broker import Broker
from shared.config import Settings
from shared.errors import NewerTables
from shared.runtime import lifecycle


class TinySettings(Settings):
    """The work of the tiny service."""

    service: ClassVar[str] = "tiny"

    tiny_act: Literal["wait", "stay", "hang", "connect", "newer", "fail", "end"] = "wait"
    tiny_closes: Literal["quickly", "slowly"] = "quickly"


def say(what: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def a_line() -> None:
    """Wait for a line on standard input and say it."""
    say((await asyncio.to_thread(sys.stdin.readline)).strip())


@asynccontextmanager
async def opened(settings: TinySettings) -> AsyncIterator[None]:
    """Open by the given settings, and print when it is closed."""
    say("opening")
    try:
        if settings.tiny_act == "hang":
            await asyncio.Event().wait()
        if settings.tiny_act == "fail":
            raise RuntimeError("a defect")
        if settings.tiny_act == "newer":
            raise NewerTables("its tables are at version 0002")
        yield
    finally:
        if settings.tiny_closes == "slowly":
            say("closing")
            await a_line()
        say("closed")


async def run(settings: TinySettings, stop: asyncio.Event) -> None:
    """Open, wait for the end, finish what is in flight: the line that comes on standard input."""
    async with opened(settings):
        if settings.tiny_act == "connect":
            async with Broker.connect(settings.amqp_url, "tiny", patience=0):
                pass
        if settings.tiny_act == "end":
            return
        say("open")
        await stop.wait()
        say("draining")
        if settings.tiny_act == "stay":
            await asyncio.Event().wait()
        await a_line()


if __name__ == "__main__":
    sys.exit(lifecycle.run(run, TinySettings, os.environ, sys.argv[1:]))
