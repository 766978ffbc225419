"""Errors of the API as problem documents (RFC 9457)."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


def problem(status: int, code: str, detail: str, **more: object) -> web.Response:
    """Build a problem document; `code` is stable, `detail` is for people."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    return web.Response(
        status=status,
        body=orjson.dumps({**body, "detail": detail, **more}),
        content_type="application/problem+json",
    )


class ProblemError(Exception):
    """A request that is refused with a problem document."""

    def __init__(self, status: int, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.response = problem(status, code, detail, **more)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever goes wrong in a handler into a problem document."""
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
    except Exception:  # noqa: BLE001  # the last resort; logged with its traceback
        _log.exception("%s %s failed", request.method, request.path)
        return problem(500, "internal-server-error", "This should not have happened.")


def _code(error: web.HTTPException) -> str:
    return HTTPStatus(error.status).phrase.lower().replace(" ", "-")
