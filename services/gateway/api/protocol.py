"""The HTTP connection; the library's own refusals become problem documents too."""

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
    Problem,
    overloaded,
)
from services.gateway.api.response import COMMON_HEADERS, problem_response
from shared.runtime.http_connections import LimitedProtocol

MAX_LINE_BYTES = 8190  # of the request line and of a header field, as the library has it
# By the limit that ends a connection; any other is a time-out.
_FAREWELLS: Mapping[str, Problem] = {
    "total": overloaded("Too many connections are open."),
    "address": overloaded("Too many connections are open from this address."),
    "headers": Problem(HEADERS_TOO_LARGE),
}

_DETAILS = {417: "Of `Expect`, 100-continue alone is known (RFC 9110 10.1.1)."}

logger = structlog.get_logger(__name__)


class GatewayProtocol(LimitedProtocol):
    """The server's side of a connection; a failure, which any peer can cause, is one log line."""

    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response; a refusal of the library, before any view, as a problem document."""
        if isinstance(resp, web.HTTPException):
            refusal = Problem(problem.type_of(resp.status), _DETAILS.get(resp.status))
            resp = _refused(request, refusal, resp.reason)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 400,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse bytes that are no HTTP, and close: the next request could begin anywhere."""
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
        """Return a whole HTTP response with a problem document; nothing for a silent peer."""
        if limit == "time" and not self._header_bytes:
            return b""
        refusal = _FAREWELLS.get(limit, Problem(TIMEOUT))
        request_id = secrets.token_hex(16)
        body = problem.document(refusal, "/", request_id)
        status = HTTPStatus(refusal.type.status)
        headers = {
            "Content-Type": problem.CONTENT_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-ID": request_id,
            **refusal.headers,
            **COMMON_HEADERS,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} {status.phrase}\r\n{head}\r\n".encode() + body

    def log_exception(self, *args: object, **more: object) -> None:
        """Log that a connection failed, mostly since a body could not be read to its end."""
        error = more.get("exc_info")
        logger.info("a connection failed", reason=type(error).__name__, what=str(args[0]))


def _refused(request: web.BaseRequest, refusal: Problem, reason: str) -> web.Response:
    """Return the problem document of a request that no view has seen, and log it."""
    request_id = secrets.token_hex(16)
    logger.info(
        "no request",
        remote=request.remote,
        request_id=request_id,
        status=refusal.type.status,
        reason=reason,
    )
    headers = {"X-Request-ID": request_id, **COMMON_HEADERS}
    return problem_response(refusal, request.rel_url.raw_path, request_id, headers)
