"""Messages over HTTP."""

from dataclasses import dataclass

from aiohttp import web

from services.gateway.api import prefer
from services.gateway.api.answers import Finished
from services.gateway.api.problem import FOREIGN_SENDER, Problem
from services.gateway.api.reply import accepted, answer
from services.gateway.api.schemas import NewMessage
from services.gateway.api.waiting import Waiting
from services.gateway.intake import RequestReader
from services.gateway.request import CLIENT
from services.gateway.road import Road
from shared.contracts import SendEmail


@dataclass(frozen=True, slots=True)
class MessageViews:
    """Sends messages; `most_wait` is in seconds."""

    intake: RequestReader
    road: Road
    waiting: Waiting
    most_wait: int

    async def post(self, request: web.Request) -> web.Response:
        """Publish a message; tell its outcome when the client waits for it."""
        client = request[CLIENT]
        new, content = await self.intake.read(request, NewMessage)
        if not client.senders.allow(new.from_):
            raise Problem(FOREIGN_SENDER)
        command = new.command(await self.intake.stamped(request, content), client.id)
        seconds = prefer.wait(request.headers.getall("Prefer", ()), self.most_wait)
        if seconds:
            return await self._waited(command, seconds)
        await self.road.publish(command)
        return accepted(command.id, {"Location": f"/v1/messages/{command.id}"})

    async def _waited(self, command: SendEmail, seconds: int) -> web.Response:
        found = await self.waiting.outcomes(command, seconds)
        applied = {"Preference-Applied": f"wait={seconds}"}
        if found.complete:
            return answer(200, Finished(id=command.id, recipients=found.told), applied)
        return accepted(command.id, applied | {"Location": f"/v1/messages/{command.id}"})
