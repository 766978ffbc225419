"""The login by the operator's token, and the logout."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from services.console.context import REMOTE, PageContext, read_form
from services.console.sessions import Session
from shared.storage.rate import LocalRateLimiter

COOKIE = "postrider-console"
MAX_LOGINS, LOGINS_SECONDS = 10, 60.0  # tries of one address
OPERATOR_NAME = "operator"  # in the audit, of everybody who has the token

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoginPages:
    """Begins and ends sessions."""

    context: PageContext
    token: bytes = field(repr=False)
    limiter: LocalRateLimiter
    is_secure: bool  # whether browsers send the cookie over TLS alone

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/login", self.show),
            web.post("/login", self.log_in),
            web.post("/logout", self.log_out),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Return the form."""
        return self._form(request.query.get("next", "/"))

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Begin a session for the token; a wrong one learns nothing, and not how often."""
        form, remote = await read_form(request), request[REMOTE]
        target = form.get("next", "/")
        if wait := self.limiter.wait(remote):
            text = f"Too many tries from your address. Try again in {ceil(wait)} seconds."
            return self._form(target, text, HTTPStatus.TOO_MANY_REQUESTS)
        if not hmac.compare_digest(form.get("token", "").strip().encode(), self.token):
            logger.warning("a login was refused", remote=remote)
            text = "That is not the token. It is the setting CONSOLE_TOKEN of the console."
            return self._form(target, text, HTTPStatus.FORBIDDEN)
        session = self.context.sessions.begin(OPERATOR_NAME, may_act=True)
        return self.begin(session, remote, target)

    def begin(self, session: Session, remote: str, target: str) -> web.Response:
        """Return the way to a page of this site, with the cookie of a session."""
        logger.info("an operator logged in", operator=session.name, remote=remote)
        response = web.Response(
            status=HTTPStatus.SEE_OTHER, headers={"Location": local_path(target)}
        )
        response.set_cookie(
            COOKIE,
            self.context.sessions.cookie(session),
            max_age=int(self.context.sessions.seconds),
            httponly=True,
            secure=self.is_secure,
            samesite="Lax",
        )
        return response

    async def log_out(self, _: web.Request) -> web.Response:
        """Remove the cookie."""
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/login"})
        response.del_cookie(COOKIE, httponly=True, secure=self.is_secure, samesite="Lax")
        return response

    def _form(
        self, target: str, mistake: str | None = None, status: int = HTTPStatus.OK
    ) -> web.Response:
        context = {"mistake": mistake, "next": local_path(target)}
        text = self.context.renderer.render("login.html", context)
        return web.Response(text=text, status=status, content_type="text/html")


def local_path(target: str) -> str:
    """Return a path of this site, `/` for a URL that leads elsewhere."""
    where = urlsplit(target)
    is_local = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_local and not where.netloc and target.isprintable() else "/"
