"""Around every request and connection: errors become problem documents, responses are logged."""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter, Gauge, Histogram

from services.gateway.api import problem
from services.gateway.api.problem import Problem
from services.gateway.api.request import (
    CLIENT,
    CLIENT_ADDRESS,
    RATE_LIMIT,
    REASON,
    RELEASE,
    REPEATABLE,
    REPLAYED,
    SUBJECT,
)
from services.gateway.api.response import COMMON_HEADERS, problem_response
from services.gateway.clients import idempotency
from shared import client_address
from shared.client_address import Network
from shared.errors import NoAnswer, Unavailable
from shared.links import LinkKind
from shared.runtime import log, tracing
from shared.runtime.http_connections import LimitedProtocol
from shared.runtime.metrics import SECONDS_BUCKETS
from shared.runtime.tracing import Span

REQUESTS = Counter(
    "postrider_http_requests", "Requests, by route and status", ("method", "route", "status")
)
DURATION = Histogram(
    "postrider_http_request_seconds", "From headers to answer", ("route",), buckets=SECONDS_BUCKETS
)
IN_FLIGHT = Gauge("postrider_http_requests_in_flight", "Requests under way now")
REFUSED = Counter(
    "postrider_http_requests_refused", "Requests refused since too many others were under way"
)
# Asked every few seconds by machines: neither counted, logged nor limited.
UNOBSERVED_PATHS = frozenset({"/ping", "/healthz", "/readyz", "/metrics"})
REQUEST_ID = web.RequestKey("request_id", str)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # safe in a log and in a header
_LINK_PATH = re.compile(rf"(/(?:{'|'.join(LinkKind)})/).*", re.IGNORECASE)
MAX_LINE_BYTES = 8190  # of the request line and of a header field, as the library has it
# By the limit that ends a connection; any other is a time-out.
_FAREWELLS: Mapping[str, Problem] = {
    "total": problem.overloaded("Too many connections are open."),
    "address": problem.overloaded("Too many connections are open from this address."),
    "headers": Problem(problem.HEADERS_TOO_LARGE),
}
_DETAILS = {417: "Of `Expect`, 100-continue alone is known (RFC 9110 10.1.1)."}

logger = structlog.get_logger(__name__)


class RequestLimit:
    """Bounds the requests under way: more than `total` would only wait for each other."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        IN_FLIGHT.set_function(lambda: self._count)  # read when the metrics are, not counted twice

    def has_room(self) -> bool:
        """Return whether half of the places are free, so that requests may wait for outcomes."""
        return 2 * self._count <= self._total

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request while it is handled. Raises Problem when there are too many."""
        if request.path in UNOBSERVED_PATHS:
            return await handler(request)
        if self._count >= self._total:
            REFUSED.inc()
            raise problem.overloaded("Too many requests are under way.", "requests in flight")
        self._count += 1
        try:
            return await handler(request)
        finally:
            self._count -= 1


def observe(proxies: Sequence[Network]) -> Middleware:
    """Return the outermost middleware; X-Forwarded-For is believed from `proxies`."""

    @web.middleware
    async def observe_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Set the id of the request, count its response, and log it in one line: the audit."""
        if request.path in UNOBSERVED_PATHS:
            return await handler(request)
        begun = time.perf_counter()
        log.bind({"request_id": _request_id(request)})
        forwarded = request.headers.getall("X-Forwarded-For", ())
        request[CLIENT_ADDRESS] = client_address.find(request.remote or "", forwarded, proxies)
        with _span(request) as span:
            response = await handler(request)
            tracing.answered(span, response.status)
        seconds = time.perf_counter() - begun
        _count(request, response.status, seconds)
        _log(request, response.status, seconds)
        return response

    return observe_request


@web.middleware
async def explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return a problem document for everything that is raised."""
    try:
        return await handler(request)
    except Problem as error:
        return _explained(request, error)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return _explained(request, Problem(problem.type_of(error.status), headers=allow))
    except (Unavailable, NoAnswer) as error:
        repeatable = _is_repeatable(request)
        return _explained(request, problem.unavailable(str(error), repeatable=repeatable))
    except ConnectionError:
        raise  # the client has closed the connection
    except Exception:
        logger.exception("a request failed")
        return _explained(request, Problem(problem.INTERNAL))
    finally:
        if RELEASE in request:
            request[RELEASE]()


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every response has."""
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    if request.get(REPLAYED):
        response.headers["Idempotent-Replayed"] = "true"
    cache_control = response.headers.get("Cache-Control")  # files alone have one
    response.headers.update(request.get(RATE_LIMIT, {}))
    response.headers.update(COMMON_HEADERS)
    if cache_control is not None:
        response.headers["Cache-Control"] = cache_control


def _explained(request: web.Request, error: Problem) -> web.Response:
    if error.reason:
        request[REASON] = error.reason
    return problem_response(error, request.rel_url.raw_path, _request_id(request))


def _request_id(request: web.Request) -> str:
    """Return the client's X-Request-ID when it is safe, else a new id."""
    if REQUEST_ID not in request:
        given = request.headers.get("X-Request-ID", "")
        request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    return request[REQUEST_ID]


def _is_repeatable(request: web.Request) -> bool:
    """Return whether the request has the same effect twice as once."""
    return (
        request.method in {"GET", "DELETE"}
        or idempotency.HEADER in request.headers
        or request.get(REPEATABLE, False)
    )


def _count(request: web.Request, status: int, seconds: float) -> None:
    # The canonical path: a label for each path of a client's invention would have no bound.
    resource = request.match_info.route.resource
    method, route = (request.method, resource.canonical) if resource else ("other", "other")
    requests, duration = _metrics(method, route, status)
    requests.inc()
    duration.observe(seconds)


@lru_cache
def _metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics of one route; finding them in the library costs more than counting."""
    return REQUESTS.labels(method, route, status), DURATION.labels(route)


def _span(request: web.Request) -> Span:
    """Return the span of a request; its path, as in the log, has no address and no token."""
    resource = request.match_info.route.resource
    return tracing.serving(
        request.method,
        resource.canonical if resource else None,
        lambda: {"url.path": _logged_path(request.rel_url.raw_path), "url.scheme": request.scheme},
        lambda name: request.headers.getall(name, ()),
    )


def _log(request: web.Request, status: int, seconds: float) -> None:
    client, subject = request.get(CLIENT), request.get(SUBJECT)
    fields = {
        "method": request.method,
        "path": _logged_path(request.rel_url.raw_path),
        "status": status,
        "seconds": round(seconds, 4),
        "remote": request.get(CLIENT_ADDRESS),
        "client": client.id if client else None,
        "id": subject and log.without_address(subject),
        "reason": request.get(REASON),
    }
    logger.info("request", **{name: value for name, value in fields.items() if value is not None})


def _logged_path(raw_path: str) -> str:
    """Return a path without the token of a link in a mail, by which anybody may unsubscribe."""
    return _LINK_PATH.sub(r"\1***", log.masked_path(raw_path))


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
            refusal = Problem(problem.INTERNAL)
        elif isinstance(exc, LineTooLong):
            refusal = Problem(
                problem.HEADERS_TOO_LARGE,
                f"The request line and each header field have at most {MAX_LINE_BYTES} bytes.",
            )
        else:
            refusal = Problem(problem.MALFORMED, "This is not HTTP.")
        response = _refused(request, refusal, type(exc).__name__)
        response.force_close()
        return response

    def farewell(self, limit: str) -> bytes:
        """Return a whole HTTP response with a problem document; nothing for a silent peer."""
        if limit == "time" and not self._header_bytes:
            return b""
        refusal = _FAREWELLS.get(limit, Problem(problem.TIMEOUT))
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
