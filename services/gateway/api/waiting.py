"""Publishing a message and waiting for its outcome, as long as it is worth it."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.gateway.api.outcomes import Outcomes
from shared.contracts import Contract, SendEmail


class Line(Protocol):
    """Publishes a message and hears what its handler answers."""

    def request_stream(
        self, message: Contract
    ) -> AbstractAsyncContextManager[asyncio.Queue[Contract]]:
        """Publish `message` and give the queue of the answers. Raises Unavailable."""


class Waiting:
    """Waits for outcomes until the client's time is up or the gateway stops."""

    def __init__(self, line: Line, stop: asyncio.Event) -> None:
        self._line = line
        self._stop = stop

    async def outcomes(self, command: SendEmail, seconds: float) -> Outcomes:
        """Publish `command` and give what is known of it when all is, or after `seconds`.

        Raises Unavailable when it could not be published.
        """
        found = Outcomes(command.id, command.recipients)
        async with self._line.request_stream(command) as replies:
            collecting = asyncio.create_task(
                _collect(found, replies), name=f"outcomes of {command.id}"
            )
            await self._unless_stopped(collecting, seconds)
        return found

    async def _unless_stopped(self, work: asyncio.Task[None], seconds: float) -> None:
        tasks = (work, asyncio.create_task(self._stop.wait()))
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


async def _collect(found: Outcomes, replies: asyncio.Queue[Contract]) -> None:
    while not found.complete:
        found.add(await replies.get())
