"""Answers that the HTTP library makes by itself, in the same form as all others."""

import secrets
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from services.gateway.api import problem
from services.gateway.api.problem import (
    HEADERS_TOO_LARGE,
    INTERNAL,
    MALFORMED,
    TIMEOUT,
    UNAVAILABLE,
    Problem,
    retry_after,
)
from services.gateway.api.reply import HARDENING
from shared.runtime.http_connections import LimitedProtocol

MAX_LINE_BYTES = 8190  # of the request line and of a header field, as the library has it
# By the limit that ends a connection; for all others a time-out.
_FAREWELLS: Mapping[str, Problem] = {
    "total": Problem(UNAVAILABLE, "Too many connections are open.", headers=retry_after()),
    "address": Problem(
        UNAVAILABLE, "Too many connections are open from this address.", headers=retry_after()
    ),
    "headers": Problem(HEADERS_TOO_LARGE),
}

_DETAILS = {417: "Of `Expect`, 100-continue alone is known (RFC 9110 10.1.1)."}

logger = structlog.get_logger(__name__)


class GatewayProtocol(LimitedProtocol):
    """The server's side of a connection; anybody can make it fail, so it tells that in a line."""

    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer; a refusal of the library, before any view, is a problem document too."""
        if isinstance(resp, web.HTTPException):
            refusal = Problem(problem.kind_of(resp.status), _DETAILS.get(resp.status))
            resp = _refused(request, refusal, resp.reason)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 400,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser cannot read, and hang up: where the next one begins is unknown."""
        del message
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("a request failed", exc_info=exc, remote=request.remote)
            refusal = Problem(INTERNAL)
        elif isinstance(exc, LineTooLong):
            refusal = Problem(
                HEADERS_TOO_LARGE,
                f"The request line and each header field have at most {MAX_LINE_BYTES} bytes.",
            )
        else:
            refusal = Problem(MALFORMED, "This is not HTTP.")
        response = _refused(request, refusal, type(exc).__name__)
        response.force_close()
        return response

    def farewell(self, limit: str) -> bytes:
        """Return a whole HTTP answer with a problem document; none to a silent connection."""
        if limit == "time" and not self._header_bytes:
            return b""
        refusal = _FAREWELLS.get(limit, Problem(TIMEOUT))
        request_id = secrets.token_hex(16)
        body = problem.document(refusal, "/", request_id)
        status = HTTPStatus(refusal.kind.status)
        headers = {
            "Content-Type": problem.CONTENT_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-ID": request_id,
            **refusal.headers,
            **HARDENING,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} {status.phrase}\r\n{head}\r\n".encode() + body

    def log_exception(self, *args: object, **more: object) -> None:
        """Tell that a connection failed: mostly since its body could not be read to the end."""
        error = more.get("exc_info")
        logger.info("a connection failed", reason=type(error).__name__, what=str(args[0]))


def _refused(request: web.BaseRequest, refusal: Problem, reason: str) -> web.Response:
    """Return the problem document of a request that no view has seen, and log it."""
    request_id = secrets.token_hex(16)
    status = refusal.kind.status
    told = {"remote": request.remote, "request_id": request_id, "status": status}
    logger.info("no request", **told, reason=reason)
    return web.Response(
        body=problem.document(refusal, request.rel_url.raw_path, request_id),
        status=status,
        headers={**refusal.headers, "X-Request-ID": request_id, **HARDENING},
        content_type=problem.CONTENT_TYPE,
    )
