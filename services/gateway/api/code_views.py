"""One-time codes over HTTP."""

from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web
from pydantic import ValidationError

from services.gateway import client_address
from services.gateway.api import problem
from services.gateway.api.answers import CodeSent, Verified
from services.gateway.api.body import RequestStamp
from services.gateway.api.reply import answer
from services.gateway.api.schemas import CodeGuess, NewCode
from services.gateway.intake import RequestReader
from services.gateway.request import CALLER, CLIENT, HARMLESS, REPLAYED, SUBJECT
from services.gateway.road import Road, unexpected
from shared.contracts import (
    CancelCode,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeUnchecked,
    CodeVerified,
    CodeWithheld,
)

# The otp service knows a request by its id for 20 hours. Later it would have another code mailed
# under the old id, which the sender has sent already: nothing would arrive.
CODES_REMEMBERED = timedelta(hours=16)


@dataclass(frozen=True, slots=True)
class CodeViews:
    """Has codes mailed, verified and cancelled; `within` are the seconds for an answer."""

    intake: RequestReader
    road: Road
    within: float

    async def post(self, request: web.Request) -> web.Response:
        """Have a code mailed, unless there were too many."""
        request[HARMLESS] = True  # the same code would be mailed, not sooner than the cooldown
        new, content = await self.intake.read(request, NewCode)
        stamp = await self._stamped(request, content)
        command = new.command(stamp, request[CLIENT].id, client_address.parse(request[CALLER]))
        match await self.road.ask(command, self.within):
            case CodeIssued() as issued:
                return answer(202, CodeSent.of(issued))
            case CodeWithheld() as withheld:
                await self.intake.forget(request)
                raise problem.too_many(withheld.retry_after, withheld.reason)
            case other:
                raise unexpected(other)

    async def verify(self, request: web.Request) -> web.Response:
        """Tell whether a code is right, unless too many were wrong."""
        guess, content = await self.intake.read(request, CodeGuess)
        stamp = await self._stamped(request, content)
        match await self.road.ask(guess.question(stamp, request[CLIENT].id), self.within):
            case CodeVerified() as verified:
                return answer(200, Verified(verified=True, id=verified.challenge_id))
            case CodeRefused():
                return answer(200, Verified(verified=False))
            case CodeUnchecked() as unchecked:
                await self.intake.forget(request)
                raise problem.too_many(unchecked.retry_after, "failures")
            case other:
                raise unexpected(other)

    async def _stamped(self, request: web.Request, content: bytes) -> RequestStamp:
        """Give the stamp of the first with the same key, if it can be known as the same behind."""
        stamp = await self.intake.stamped(request, content)
        if not request.get(REPLAYED) or self.intake.now().at - stamp.at < CODES_REMEMBERED:
            return stamp
        await self.intake.forget(request)
        return await self.intake.stamped(request, content)

    async def delete(self, request: web.Request) -> web.Response:
        """Have a code be right no more; the answer is the same when it was not."""
        request[SUBJECT] = request.match_info["id"]
        try:
            command = CancelCode(
                id=self.intake.now().id,
                challenge_id=request.match_info["id"],
                client=request[CLIENT].id,
            )
        except ValidationError:
            return web.Response(status=204)  # no code has such an id
        match await self.road.ask(command, self.within):
            case CodeCancelled():
                return web.Response(status=204)
            case other:
                raise unexpected(other)
