"""The parts that all pages need: questions to services, rendering, sessions and the audit."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from aiohttp import web
from pydantic import ValidationError

from services.console.audit import ActionResult, Audit
from services.console.logouts import EndedSessions
from services.console.rendering import PageRenderer
from services.console.sessions import Session, Sessions
from shared import contracts
from shared.broker import Broker
from shared.contracts import Answer, Contract
from shared.errors import NoAnswer, Retry, Unavailable

SESSION = web.RequestKey("session", Session)  # set before a page is called
REMOTE = web.RequestKey("remote", str)  # the operator's address
NOTE = "note"  # in a query: the signed result of an action
MAX_FORM_BYTES = 512 * 1024  # the variables of a mail, each character as several octets
FORM_TYPE = "application/x-www-form-urlencoded"
# By the first word of a question's key, for the text when no answer comes.
SERVICES: Mapping[str, str] = {
    "email": "ledger",
    "suppression": "ledger",
    "domain": "classifier",
    "content": "scheduler",
    "run": "scheduler",
    "subscription": "scheduler",
    "webhook": "webhooks",
    "client": "gateway",
    "relay": "sender",
}

A = TypeVar("A", bound=Answer)
Q = TypeVar("Q", bound=Contract)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Missing:
    """The part of a page that could not be had, with the reason and what to do."""

    reason: str


class Listing(NamedTuple):
    """A page of a list: its filters, the answer, and the query of the next page.

    Without an answer `mistake` says in words what is wrong with the filters.
    """

    filters: Mapping[str, str]
    found: Answer | None = None
    more: str | None = None
    mistake: str | None = None


@dataclass(frozen=True, slots=True)
class PageContext:
    """Asks, renders and acts for the pages; methods raise Unavailable or NoAnswer."""

    broker: Broker
    renderer: PageRenderer
    sessions: Sessions
    ended: EndedSessions
    audit: Audit
    answer_seconds: float
    new_id: Callable[[], str]

    async def ask(self, question: Contract, kind: type[A]) -> A:
        """Return the answer to a question, which is of one kind."""
        answer = await self.broker.ask(question, self.answer_seconds)
        if not isinstance(answer, kind):
            raise NoAnswer(f"an answer of the wrong type, {answer.routing_key}")
        return answer

    def question(self, kind: type[Q], fields: Mapping[str, object]) -> Q:
        """Return a question with an id of its own. Raises ValidationError."""
        return kind.model_validate({"id": self.new_id(), **fields})

    async def listing(
        self,
        request: web.Request,
        names: Sequence[str],
        question: Callable[[Mapping[str, str]], Contract],
        kind: type[A],
    ) -> Listing:
        """Return what a service answers for the filters in a request's query."""
        filters = given(request.query, *names)
        unknown = [each for each in request.query if each not in {*names, NOTE}]
        if unknown:
            known = ", ".join(each for each in names if each != "after")
            return Listing(filters, mistake=f"{unknown[0]}: must be one of {known}")
        try:
            asked = question(filters)
        except ValidationError as error:
            return Listing(filters, mistake=contracts.mistakes(error))
        found = await self.ask(asked, kind)
        following = getattr(found, "next", None)
        more = urlencode({**filters, "after": following}) if following else None
        return Listing(filters, found, more)

    def list_page(
        self,
        request: web.Request,
        template: str,
        listing: Listing,
        status: HTTPStatus | None = None,
        **more: object,
    ) -> web.Response:
        """Return a page with a list, or with the mistake in the filters beside them."""
        status = status or (HTTPStatus.BAD_REQUEST if listing.mistake else HTTPStatus.OK)
        return self.page(request, template, status, **listing._asdict(), **more)

    def page(
        self, request: web.Request, template: str, status: int = 200, **more: object
    ) -> web.Response:
        """Return a page for the operator of a request."""
        session = request[SESSION]
        note = request.query.get(NOTE, "")
        context: dict[str, Any] = {
            "session": session,
            "form_token": self.sessions.form_token(session),
            "path": request.path,
            "url": request.path_qs,
            "note": self.sessions.read_note(session, note) if note else None,
            **more,
        }
        text = self.renderer.render(template, context)
        return web.Response(text=text, status=status, content_type="text/html")

    @asynccontextmanager
    async def acting(
        self, request: web.Request, action: str, subject: str
    ) -> AsyncIterator[ActionResult]:
        """Record what the block does, before and after it. Raises Retry if it cannot be kept."""
        session, remote = request[SESSION], request[REMOTE]
        async with self.audit.acting(session, remote, action, subject) as result:
            yield result

    def back(self, request: web.Request, path: str, result: ActionResult) -> web.HTTPSeeOther:
        """Return the redirect after an action: the page of `path`, which shows the result once."""
        signed = self.sessions.note(request[SESSION], result.text, failed=result.failed)
        joint = "&" if "?" in path else "?"
        return web.HTTPSeeOther(f"{path}{joint}{NOTE}={signed}")


async def tried(work: Awaitable[T]) -> T | Missing:
    """Return the result, or the reason why a service or the broker did not answer."""
    try:
        return await work
    except (NoAnswer, Unavailable, Retry) as error:
        return Missing(explained(error))


def explained(error: Exception) -> str:
    """Return a failure in words, with what to do."""
    if isinstance(error, NoAnswer):
        key = str(error).removeprefix("no answer to ").partition(" ")[0]
        service = SERVICES.get(key.partition(".")[0])
        if service is not None:
            return f"The service {service} did not answer. Look whether it runs, and at its log."
    if isinstance(error, Unavailable):
        return f"RabbitMQ does not answer as it should: {error}. Look whether it runs."
    return f"{error}. Look whether the database of the console runs."


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form, the last of each name.

    Raises HTTPException for a form that no page of the console sends.
    """
    if request.content_type != FORM_TYPE:
        raise web.HTTPUnsupportedMediaType(text=f"A form must be {FORM_TYPE}.")
    try:
        posted = await request.post()
    except web.HTTPRequestEntityTooLarge as error:
        error.text = f"The form is too long: it may have {MAX_FORM_BYTES // 1024} kB."
        raise
    except (ValueError, LookupError):  # a wrong encoding, or the name of none
        raise web.HTTPBadRequest(text="The form is not in UTF-8.") from None
    return {name: value for name, value in posted.items() if isinstance(value, str)}


def given(fields: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the fields of some names that are not empty, without spaces around them."""
    return {name: text for name in names if (text := fields.get(name, "").strip())}
