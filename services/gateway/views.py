"""One method an endpoint: read, publish or ask, answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from services.gateway import body, prefer, schemas
from services.gateway.answers import Accepted, Answer, ClientKey, Domain, Finished, Verified
from services.gateway.clients import Clients
from services.gateway.problem import CLIENT_EXISTS, NO_SUCH_CLIENT, Problem
from services.gateway.schemas import CodeGuess, Feedback, NewClient, NewCode, NewMessage, Stamp
from services.gateway.waiting import Waiting
from shared.contracts import (
    CodeRefused,
    CodeVerified,
    Contract,
    DescribeDomain,
    DomainDescribed,
    FeedbackBounced,
    FeedbackDelivered,
    SendEmail,
)
from shared.errors import NoAnswer

View = Callable[[web.Request], Awaitable[web.Response]]

CLIENT = web.RequestKey("client", str)  # who asks; set before the view is called
SUBJECT = web.RequestKey("subject", str)  # the id of what was made, for the log


class Road(Protocol):
    """The way to the other services. Methods raise Unavailable or NoAnswer."""

    async def publish(self, message: Contract) -> None:
        """Publish a command or event; return when it is kept."""

    async def ask(self, question: Contract, within: float) -> Contract:
        """Publish a question and give its answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds."""

    body: float
    answer: float
    wait: int


@dataclass(frozen=True, slots=True)
class Views:
    """The endpoints; each raises Problem, or what the road and the store raise."""

    road: Road
    clients: Clients
    waiting: Waiting
    limits: Limits
    stamp: Callable[[], Stamp]

    async def post_message(self, request: web.Request) -> web.Response:
        """Publish a message; tell its outcome when the client waits for it."""
        new = schemas.read(NewMessage, await body.read(request, self.limits.body))
        command = new.command(self._stamped(request), request[CLIENT])
        seconds = prefer.wait(request.headers.getall("Prefer", ()), self.limits.wait)
        if seconds:
            return await self._waited(command, seconds)
        await self.road.publish(command)
        return _accepted(command.id, {"Location": f"/v1/messages/{command.id}"})

    async def _waited(self, command: SendEmail, seconds: int) -> web.Response:
        found = await self.waiting.outcomes(command, seconds)
        applied = {"Preference-Applied": f"wait={seconds}"}
        if found.complete:
            return _answer(200, Finished(id=command.id, recipients=found.told), applied)
        return _accepted(command.id, applied | {"Location": f"/v1/messages/{command.id}"})

    async def post_code(self, request: web.Request) -> web.Response:
        """Ask for a code to be mailed."""
        new = schemas.read(NewCode, await body.read(request, self.limits.body))
        command = new.command(self._stamped(request), request[CLIENT])
        await self.road.publish(command)
        return _accepted(command.id)

    async def verify_code(self, request: web.Request) -> web.Response:
        """Tell whether a code is right."""
        guess = schemas.read(CodeGuess, await body.read(request, self.limits.body))
        question = guess.question(self._stamped(request), request[CLIENT])
        match await self.road.ask(question, self.limits.answer):
            case CodeVerified():
                return _answer(200, Verified(verified=True))
            case CodeRefused():
                return _answer(200, Verified(verified=False))
            case other:
                raise _unexpected(other)

    async def put_delivered(self, request: web.Request) -> web.Response:
        """Publish that somebody's mail to a domain was delivered."""
        return await self._put_feedback(request, FeedbackDelivered)

    async def put_bounced(self, request: web.Request) -> web.Response:
        """Publish that somebody's mail to a domain bounced."""
        return await self._put_feedback(request, FeedbackBounced)

    async def _put_feedback(self, request: web.Request, kind: type[Feedback]) -> web.Response:
        domain = schemas.read_domain(request.match_info["domain"])
        stamp = self._stamped(request)
        event = kind(id=stamp.id, at=stamp.at, domain=domain, client=request[CLIENT])
        await self.road.publish(event)
        return _accepted(event.id)

    async def get_domain(self, request: web.Request) -> web.Response:
        """Tell what is known of a domain."""
        domain = schemas.read_domain(request.match_info["domain"])
        question = DescribeDomain(id=self.stamp().id, domain=domain)
        match await self.road.ask(question, self.limits.answer):
            case DomainDescribed() as known:
                return _answer(200, Domain(**known.model_dump(exclude={"id"})))
            case other:
                raise _unexpected(other)

    async def post_client(self, request: web.Request) -> web.Response:
        """Register a client and tell its key."""
        new = schemas.read(NewClient, await body.read(request, self.limits.body))
        api_key = await self.clients.register(new.id, self._stamped(request))
        if api_key is None:
            raise Problem(CLIENT_EXISTS)
        made = {"Location": f"/v1/clients/{new.id}"}
        return _answer(201, ClientKey(id=new.id, api_key=api_key), made)

    async def delete_client(self, request: web.Request) -> web.Response:
        """Revoke a client's key."""
        if not await self.clients.revoke(request.match_info["id"]):
            raise Problem(NO_SUCH_CLIENT)
        return web.Response(status=204)

    def _stamped(self, request: web.Request) -> Stamp:
        stamp = self.stamp()
        request[SUBJECT] = stamp.id
        return stamp


async def ping(_: web.Request) -> web.Response:
    """Answer with the least possible work: what bounds every other endpoint."""
    return web.Response(body=b"pong", content_type="text/plain")


def _accepted(identifier: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return _answer(202, Accepted(id=identifier), headers)


def _answer(status: int, answer: Answer, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=answer.encode(), status=status, headers=headers, content_type="application/json"
    )


def _unexpected(answer: Contract) -> NoAnswer:
    return NoAnswer(f"an answer of the wrong type, {answer.routing_key}")
