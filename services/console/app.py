"""The application: who may see a page, who may act, and the headers of every response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote, urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from services.console.context import (
    MAX_FORM_BYTES,
    REMOTE,
    SESSION,
    PageContext,
    explained,
    read_form,
)
from services.console.login import COOKIE, LoginPages
from services.console.rendering import FOLDER, STATIC_FILES
from shared import client_address, contracts
from shared.client_address import Network
from shared.errors import NoAnswer, Reject, Retry, Unavailable
from shared.runtime import health
from shared.runtime.health import Check

HEADERS: Mapping[str, str] = {
    # Nothing inline, nothing from elsewhere, and no page of others around this one.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "postrider",
}
UNGUARDED = frozenset({"/login", "/healthz", "/readyz", "/metrics", *STATIC_FILES})
# Forms that change nothing: the variables of a preview are personal, and too long for a URL.
READING_FORMS = frozenset({"/logout", "/content/{name}/variables", "/content/{name}/preview"})
_UNOBSERVED = frozenset({"/healthz", "/readyz", "/metrics"})

logger = structlog.get_logger(__name__)


class Pages(Protocol):
    """The pages about one subject."""

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Admits requests of operators: with a session, and with a form's token if they act."""

    context: PageContext
    proxies: Sequence[Network]

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Find the session and check the form; without a session, lead to the login."""
        if request.path in _UNOBSERVED:
            return await handler(request)
        forwarded = request.headers.getall("X-Forwarded-For", ())
        request[REMOTE] = client_address.find(request.remote or "", forwarded, self.proxies)
        if request.method == "POST" and not _is_same_origin(request):
            raise web.HTTPForbidden(text="This form was sent by another site.")
        if request.path in UNGUARDED or request.path.startswith("/login/"):
            return await handler(request)
        session = self.context.sessions.read(request.cookies.get(COOKIE, ""))
        if session is None or await self.context.ended.covers(session):
            return _login(request)
        request[SESSION] = session
        if request.method == "POST":
            await self._check_form(request)
        return await handler(request)

    async def _check_form(self, request: web.Request) -> None:
        session, form = request[SESSION], await read_form(request)
        if not self.context.sessions.is_form_token(session, form.get("form_token", "")):
            raise web.HTTPForbidden(text="The form is of another session: load its page again.")
        if not session.may_act and not _changes_nothing(request):
            raise web.HTTPForbidden(text="You may look at everything here, and change nothing.")

    @web.middleware
    async def explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return a page for every error."""
        try:
            return await handler(request)
        except (NoAnswer, Unavailable, Retry) as error:
            return self._failed(request, HTTPStatus.SERVICE_UNAVAILABLE, explained(error))
        except ValidationError as error:
            return self._failed(request, HTTPStatus.BAD_REQUEST, contracts.mistakes(error))
        except Reject as error:
            return self._failed(request, HTTPStatus.BAD_REQUEST, str(error))
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return self._failed(request, HTTPStatus(error.status), error.text or error.reason)
        except ConnectionError:
            raise  # the browser has closed the connection
        except Exception:
            logger.exception("a request failed", path=request.path)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return self._failed(request, status, "That is a fault of the console: see its log.")

    def _failed(self, request: web.Request, status: HTTPStatus, text: str) -> web.Response:
        if SESSION not in request:
            return web.Response(text=text, status=status)
        return self.context.page(request, "failed.html", status, title=status.phrase, reason=text)


def _changes_nothing(request: web.Request) -> bool:
    """Return whether a form is one that operators may send who may look only."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical in READING_FORMS


def _login(request: web.Request) -> web.Response:
    """Return the way to the login and back to the page, also of a page that renews its part."""
    where = "/login"
    if request.method == "GET" and request.path != "/":
        where = f"/login?next={quote(request.path_qs)}"
    if "HX-Request" in request.headers:
        return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": where})
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": where})


def _is_same_origin(request: web.Request) -> bool:
    """Return whether a form was sent by a page of this host, as far as the browser tells."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = HEADERS["Server"]


def build_app(
    context: PageContext,
    login: LoginPages,
    pages: Sequence[Pages],
    checks: Mapping[str, Check],
    proxies: Sequence[Network] = (),
) -> web.Application:
    """Return the application; `checks` are those of `/readyz`."""
    guard = Guard(context, proxies)
    app = web.Application(middlewares=[guard.explain, guard.admit], client_max_size=MAX_FORM_BYTES)
    app.on_response_prepare.append(_add_headers)
    app.add_routes(health.routes(checks))
    app.add_routes(_static(path, name) for path, name in STATIC_FILES.items())
    for each in (login, *pages):
        app.add_routes(each.routes())
    return app


def _static(path: str, name: str) -> web.RouteDef:
    async def send(_: web.Request) -> web.FileResponse:
        return web.FileResponse(FOLDER / name, headers={"Cache-Control": "no-cache"})

    return web.get(path, send)
