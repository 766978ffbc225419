"""Server-sent events for the live page."""

import asyncio
from typing import Final

from aiohttp import web

from ops.simulator.mailbox import Mailbox
from ops.simulator.problem import problem

STREAMS: Final = 100  # at most
HEARTBEAT: Final = 15.0  # seconds; finds out who has gone
PACE: Final = 0.2  # seconds between two events, however much mail comes


class Events:
    """Tells each listener how many mails there are, whenever that changes."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._streams: set[asyncio.Task[object]] = set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with events until the listener or the simulator goes."""
        if len(self._streams) >= STREAMS:
            return problem(503, "too-many-listeners", "Close another page first.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream = asyncio.ensure_future(self._tell(response))
        self._streams.add(stream)
        try:
            await asyncio.wait({stream})
        finally:
            stream.cancel()
            self._streams.discard(stream)
        return response

    async def close(self, _app: web.Application) -> None:
        """End all streams."""
        for stream in self._streams:
            stream.cancel()

    async def _tell(self, response: web.StreamResponse) -> None:
        change = self._mailbox.change
        while True:
            told = change.version
            await response.write(b'event: mailbox\ndata: {"count": %d}\n\n' % len(self._mailbox))
            await asyncio.sleep(PACE)
            while change.version == told:
                try:
                    await asyncio.wait_for(change.wait(), HEARTBEAT)
                except TimeoutError:
                    await response.write(b": still here\n\n")
