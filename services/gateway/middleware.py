"""What happens around every request: problems become documents, ends are counted and told."""

import re
import secrets
import time
from collections.abc import Sequence
from functools import lru_cache

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter, Histogram

from services.gateway import client_address, metrics
from services.gateway.api import problem
from services.gateway.api.problem import Problem
from services.gateway.api.reply import HARDENING
from services.gateway.client_address import Network
from services.gateway.clients import idempotency
from services.gateway.clients.store import StoreAway
from services.gateway.request import CALLER, CLIENT, HARMLESS, RELEASE, REPLAYED, SUBJECT
from shared.errors import NoAnswer, Unavailable
from shared.runtime import log

# Asked every few seconds by machines: neither counted nor told.
UNWATCHED = frozenset({"/ping", "/healthz", "/readyz", "/metrics"})
REQUEST_ID = web.RequestKey("request_id", str)
REASON = web.RequestKey("reason", str)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what may stand in a log and a header

logger = structlog.get_logger(__name__)


def watching(proxies: Sequence[Network]) -> Middleware:
    """Give the outermost middleware; `proxies` are believed when they say who has called them."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request an id, count it, and tell how it ended: one line, the audit."""
        if request.path in UNWATCHED:
            return await handler(request)
        begun = time.perf_counter()
        log.bind({"request_id": _identify(request)})
        forwarded = request.headers.getall("X-Forwarded-For", ())
        request[CALLER] = client_address.find(request.remote or "", forwarded, proxies)
        response = await handler(request)
        seconds = time.perf_counter() - begun
        _count(request, response.status, seconds)
        _tell(request, response.status, seconds)
        return response

    return watch


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
        return _document(request, problem.unavailable(str(error), harmless=_is_harmless(request)))
    except ConnectionError:
        raise  # the client has gone; nobody is left to answer
    except Exception:
        logger.exception("a request failed")
        return _document(request, Problem(problem.INTERNAL))
    finally:
        if RELEASE in request:
            request[RELEASE]()


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Give each answer the headers that all have."""
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    if request.get(REPLAYED):
        response.headers["Idempotent-Replayed"] = "true"
    response.headers.update(HARDENING)


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
        request[REQUEST_ID] = theirs if harmless else secrets.token_hex(16)
    return request[REQUEST_ID]


def _is_harmless(request: web.Request) -> bool:
    """Tell whether to ask again is no more than to ask once, whatever became of this."""
    return (
        request.method in {"GET", "DELETE"}
        or idempotency.HEADER in request.headers
        or request.get(HARMLESS, False)
    )


def _count(request: web.Request, status: int, seconds: float) -> None:
    method, route = _route(request)
    _requests(method, route, status).inc()
    _duration(route).observe(seconds)


@lru_cache
def _requests(method: str, route: str, status: int) -> Counter:
    """Give one counter; to look it up costs more than to count."""
    return metrics.REQUESTS.labels(method, route, status)


@lru_cache
def _duration(route: str) -> Histogram:
    return metrics.DURATION.labels(route)


def _route(request: web.Request) -> tuple[str, str]:
    """Name method and route for the counters, which must not grow with what clients invent."""
    resource = request.match_info.route.resource
    return (request.method, resource.canonical) if resource else ("other", "other")


def _tell(request: web.Request, status: int, seconds: float) -> None:
    client = request.get(CLIENT)
    told = {
        "method": request.method,
        "path": request.path,
        "status": status,
        "seconds": round(seconds, 4),
        "remote": request.get(CALLER),
        "client": client.id if client else None,
        "id": request.get(SUBJECT),
        "reason": request.get(REASON),
    }
    logger.info("request", **{name: value for name, value in told.items() if value is not None})
