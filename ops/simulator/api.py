"""The API of the mailbox: its queries, its answers, and errors as problem documents (RFC 9457)."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import orjson
from aiohttp import web
from multidict import MultiMapping
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from yarl import URL

from ops.simulator.behaviour import Behaviour
from ops.simulator.mail import StoredMail, filename, is_viewable, response_headers, with_images
from ops.simulator.mailbox import Mailbox
from ops.simulator.policy import SmtpPolicy

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)
LIMIT: Final = 100  # messages in one response, by default
MAX_LIMIT: Final = 1000

_ID: Final = re.compile(r"\d{8}T\d{6}-\d{6,}", re.ASCII)
# Links open in a new tab; no other request leaves the mail, and no script runs.
_MAIL_RULES: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; "
    "frame-ancestors 'self'"
)
_MAIL_HEAD: Final = '<!doctype html><meta charset="utf-8"><base target="_blank">'


def problem(status: int, code: str, detail: str, **more: object) -> web.Response:
    """Return a problem document; `code` is stable, `detail` is for people."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    return web.Response(
        status=status,
        body=orjson.dumps({**body, "detail": detail, **more}),
        content_type="application/problem+json",
    )


class ProblemError(Exception):
    """The request is refused with a problem document."""

    def __init__(self, status: int, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.response = problem(status, code, detail, **more)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return a problem document for any error of a handler."""
    try:
        return await handler(request)
    except ProblemError as error:
        return error.response
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        answer = problem(error.status, _code(error), error.text or error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception:  # noqa: BLE001  # logged with its traceback
        _log.exception("%s %s failed", request.method, request.path)
        return problem(500, "internal-server-error", "The simulator has an internal error.")


def _code(error: web.HTTPException) -> str:
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # Python 3.13 renamed its phrase
        return "request-entity-too-large"
    return HTTPStatus(error.status).phrase.lower().replace(" ", "-")


def _checked_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise PydanticCustomError("id", "It must be the id of a mail")
    return text


_Text = Annotated[str, Field(min_length=1, max_length=1000)]
_Id = Annotated[_Text, AfterValidator(_checked_id)]


class NoParameters(BaseModel):
    """No parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MailQuery(NoParameters):
    """The messages that match all given parameters, without regard to case.

    `to` is a recipient of the envelope, `recipient` a part of one; `search` is a part of a
    recipient, the sender, the subject or the text.
    """

    to: _Text | None = None
    recipient: _Text | None = None
    search: _Text | None = None


class MailPageQuery(MailQuery):
    """A page of `limit` messages that are older than the message `before`."""

    before: _Id | None = None
    limit: int = Field(default=LIMIT, ge=1, le=MAX_LIMIT)
    brief: bool = False


Q = TypeVar("Q", bound=NoParameters)


def read(model: type[Q], query: MultiMapping[str]) -> Q:
    """Parse the parameters. Raises a ProblemError of status 400 for the first wrong one."""
    for name in query:
        if len(query.getall(name)) > 1:
            raise ProblemError(400, f"bad-{name}", f"The parameter {name} is given twice.")
    try:
        return model.model_validate(dict(query))
    except ValidationError as error:
        raise _refusal(error, model) from None


def _refusal(error: ValidationError, model: type[BaseModel]) -> ProblemError:
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(wrong["loc"][0])
    if wrong["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) or "none"
        detail = f"There is no parameter {name} here. Known: {known}."
        return ProblemError(400, "unknown-parameter", detail, parameter=name)
    detail = f"The parameter {name} is wrong. {wrong['msg']}."
    return ProblemError(400, f"bad-{name}", detail, parameter=name)


class MailboxApi:
    """The handlers of the API."""

    def __init__(
        self,
        mailbox: Mailbox,
        policy: SmtpPolicy,
        ports: Mapping[str, int | None],
        published: str | None = None,
    ) -> None:
        """Build it; `ports` are those of SMTP by name, `published` the address for clients."""
        self._mailbox = mailbox
        self._policy = policy
        self._ports = ports
        self._published = published

    async def health(self, _request: web.Request) -> web.Response:
        """Answer with the SMTP ports, and with their published address, if it is known."""
        published = {"smtp_published": self._published} if self._published else {}
        return _json({"status": "ok", "ports": self._ports, **published})

    async def messages(self, request: web.Request) -> web.Response:
        """Answer with a page of the messages, the newest first, and a link to the next page."""
        asked = read(MailPageQuery, request.query)
        # In a thread: parsing many mails would block the SMTP port.
        return await asyncio.to_thread(_page, self._mailbox.find(asked.to), asked, request.url)

    async def message(self, request: web.Request) -> web.Response:
        """Answer with one mail."""
        mail = self._mail(request)
        return _json(await asyncio.to_thread(_full, mail, request.url))

    async def attachment(self, request: web.Request) -> web.Response:
        """Answer with an attachment, by its number from 0."""
        mail, number = self._mail(request), request.match_info["number"]
        found = (await asyncio.to_thread(mail.content)).attachments
        if int(number) >= len(found):
            raise ProblemError(404, "unknown-attachment", "There is no such attachment.")
        chosen = found[int(number)]
        return web.Response(body=chosen.octets, headers=response_headers(chosen))

    async def raw(self, request: web.Request) -> web.Response:
        """Answer with the octets as received."""
        mail = self._mail(request)
        # Chromium shows this type as a page otherwise.
        saved = {"Content-Disposition": f'attachment; filename="{mail.id}.eml"'}
        return web.Response(body=mail.raw, content_type="message/rfc822", headers=saved)

    async def source(self, request: web.Request) -> web.Response:
        """Answer with the octets as plain text."""
        return web.Response(text=self._mail(request).raw.decode("utf-8", "replace"))

    async def html(self, request: web.Request) -> web.Response:
        """Answer with the HTML of a mail, sandboxed."""
        return await asyncio.to_thread(_shown, self._mail(request))

    async def delete(self, request: web.Request) -> web.Response:
        """Remove one mail."""
        self._mailbox.remove([self._mail(request)])
        return web.Response(status=204)

    async def clear(self, request: web.Request) -> web.Response:
        """Remove the mails that match the query, all mails without a query."""
        asked = read(MailQuery, request.query)
        mails = self._mailbox.find(asked.to)
        self._mailbox.remove(await asyncio.to_thread(_fitting, mails, asked))
        return web.Response(status=204)

    async def behaviour(self, _request: web.Request) -> web.Response:
        """Answer with the behaviour."""
        return _json(self._policy.behaviour.model_dump(mode="json"))

    async def behave(self, request: web.Request) -> web.Response:
        """Replace the whole behaviour; a missing field has its default."""
        try:
            self._policy.behaviour = Behaviour.model_validate_json(await request.read())
        except ValidationError as error:
            return _invalid(error)
        return await self.behaviour(request)

    async def reset_behaviour(self, request: web.Request) -> web.Response:
        """Return to the default behaviour."""
        self._policy.reset()
        return await self.behaviour(request)

    def _mail(self, request: web.Request) -> StoredMail:
        mail = self._mailbox.get(request.match_info["id"])
        if mail is None:
            raise ProblemError(404, "unknown-message", "There is no message with this id.")
        return mail


def _page(mails: Sequence[StoredMail], asked: MailPageQuery, url: URL) -> web.Response:
    found = _fitting(mails, asked)
    # Ids sort by arrival: no page repeats or skips a mail when others come or go.
    older = [mail for mail in found if asked.before is None or mail.id < asked.before]
    view = _brief if asked.brief else _full
    answer = _json([view(mail, url) for mail in older[: asked.limit]])
    answer.headers["X-Total-Count"] = str(len(found))
    if len(older) > asked.limit:
        following = url.update_query(before=older[asked.limit - 1].id)
        answer.headers["Link"] = f'<{following}>; rel="next"'  # RFC 8288
    return answer


def _fitting(mails: Sequence[StoredMail], asked: MailQuery) -> Sequence[StoredMail]:
    if asked.recipient is not None:
        mails = [mail for mail in mails if mail.is_to(asked.recipient.lower())]
    if asked.search is not None:
        mails = [mail for mail in mails if mail.mentions(asked.search)]
    return mails


def _brief(mail: StoredMail, url: URL) -> dict[str, object]:
    return {
        "id": mail.id,
        "from": mail.sender,
        "to": mail.recipients,
        "subject": mail.subject,
        "received_at": mail.received_at,
        "size": len(mail.raw),
        "attachment_count": mail.summary.attachments,
        "raw_url": f"{_address(mail, url)}/raw",
    }


def _full(mail: StoredMail, url: URL) -> dict[str, object]:
    content = mail.content()
    return {
        **_brief(mail, url),
        "headers": mail.headers,
        "text": content.text,
        "html": content.html,
        "attachments": [
            {
                "filename": filename(each),
                "content_type": each.content_type,
                "size": each.size,
                "content_id": each.content_id,
                "viewable": is_viewable(each),
                "url": f"{_address(mail, url)}/attachments/{number}",
            }
            for number, each in enumerate(content.attachments)
        ],
    }


def _address(mail: StoredMail, url: URL) -> URL:
    return url.origin() / "api/messages" / mail.id


def _shown(mail: StoredMail) -> web.Response:
    content = mail.content()
    return web.Response(
        text=_MAIL_HEAD + with_images(content.html or "", content.attachments),
        content_type="text/html",
        # A DNS prefetch would show the sender that the mail was opened.
        headers={"Content-Security-Policy": _MAIL_RULES, "X-DNS-Prefetch-Control": "off"},
    )


def _invalid(error: ValidationError) -> web.Response:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        return problem(400, "bad-json", details[0]["msg"])
    errors = [
        {"field": ".".join(map(str, detail["loc"])), "detail": detail["msg"]} for detail in details
    ]
    return problem(422, "bad-behaviour", "This is no behaviour.", errors=errors)


def _json(data: object) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")
