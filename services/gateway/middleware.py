"""What happens around every request: problems become documents, ends are counted and told."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from services.gateway import metrics, problem
from services.gateway.problem import Problem
from services.gateway.store import StoreAway
from services.gateway.views import CLIENT, SUBJECT
from shared import log
from shared.errors import NoAnswer, Unavailable

# Asked every few seconds by machines: neither counted nor told.
UNWATCHED = frozenset({"/ping", "/healthz", "/readyz", "/metrics"})
REQUEST_ID = web.RequestKey("request_id", str)
REASON = web.RequestKey("reason", str)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what may stand in a log and a header

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = structlog.get_logger(__name__)


@web.middleware
async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, count it, and tell how it ended: one line, which is the audit."""
    if request.path in UNWATCHED:
        return await handler(request)
    begun = time.perf_counter()
    log.bind({"request_id": _identify(request)})
    response = await handler(request)
    seconds = time.perf_counter() - begun
    route = _route(request)
    metrics.REQUESTS.labels(*route, response.status).inc()
    metrics.DURATION.labels(route[1]).observe(seconds)
    _tell(request, response.status, seconds)
    return response


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn all that is raised into a problem document."""
    try:
        return await handler(request)
    except Problem as error:
        return _document(request, error)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return _document(request, Problem(problem.kind_of(error.status), headers=allow))
    except (Unavailable, NoAnswer, StoreAway) as error:
        return _document(request, problem.unavailable(str(error)))
    except ConnectionError:
        raise  # the client has gone; nobody is left to answer
    except Exception:
        logger.exception("a request failed")
        return _document(request, Problem(problem.INTERNAL))


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Keep answers out of caches, their type from being guessed, and our parts to ourselves."""
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "postrider"


def _document(request: web.Request, error: Problem) -> web.Response:
    if error.reason:
        request[REASON] = error.reason
    content = problem.document(error, request.rel_url.raw_path, _identify(request))
    return web.Response(
        body=content,
        status=error.kind.status,
        headers=error.headers,
        content_type=problem.CONTENT_TYPE,
    )


def _identify(request: web.Request) -> str:
    """Give the request's id: the one it came with when that is harmless, else a new one."""
    if REQUEST_ID not in request:
        theirs = request.headers.get("X-Request-ID", "")
        harmless = _REQUEST_ID.fullmatch(theirs)
        request[REQUEST_ID] = theirs if harmless else uuid.uuid4().hex
    return request[REQUEST_ID]


def _route(request: web.Request) -> tuple[str, str]:
    """Name method and route for the counters, which must not grow with what clients invent."""
    resource = request.match_info.route.resource
    return (request.method, resource.canonical) if resource else ("other", "other")


def _tell(request: web.Request, status: int, seconds: float) -> None:
    told = {
        "method": request.method,
        "path": request.path,
        "status": status,
        "seconds": round(seconds, 4),
        "remote": request.remote,
        "client": request.get(CLIENT),
        "id": request.get(SUBJECT),
        "reason": request.get(REASON),
    }
    logger.info("request", **{name: value for name, value in told.items() if value is not None})
