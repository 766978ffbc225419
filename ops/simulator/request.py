"""Requests to the API: their query parameters, and errors as problem documents (RFC 9457)."""

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import orjson
from aiohttp import web
from multidict import MultiMapping
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)
LIMIT: Final = 100  # messages in one response, by default
MAX_LIMIT: Final = 1000

_ID: Final = re.compile(r"\d{8}T\d{6}-\d{6,}", re.ASCII)


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
