"""The login by the operator's token or by an OpenID provider, and the logout."""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from math import ceil
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from services.console.context import REMOTE, SESSION, PageContext, read_form
from services.console.oidc import LoginAttempt, OidcError, OidcProvider
from services.console.operators import OPERATOR_NAME, LoginWay, Operators
from services.console.sessions import LOGIN, Session
from shared.errors import Retry
from shared.storage.rate import LocalRateLimiter

COOKIE = "postrider-console"
LOGIN_COOKIE = "postrider-login"  # of a login that the provider has not ended yet
LOGIN_PATH = "/login/oidc"
LOGIN_SECONDS = 600  # for the operator at the provider
AWAY = (
    "You are logged out here. The console's database is away: until it is back, other consoles may "
    "still take a copy of your cookie."
)
MAX_LOGINS, LOGINS_SECONDS = 10, 60.0  # tries of one address

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoginPages:
    """Begins and ends sessions; `random` returns text of 256 bits that a URL may have."""

    context: PageContext
    operators: Operators
    limiter: LocalRateLimiter
    is_secure: bool  # whether browsers send the cookie over TLS alone
    provider: OidcProvider | None
    random: Callable[[], str]

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/login", self.show),
            web.post("/login", self.log_in),
            web.get(LOGIN_PATH, self.leave),
            web.get(f"{LOGIN_PATH}/callback", self.come_back),
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
        if not _is_same(self.operators.token, form.get("token", "").strip()):
            logger.warning("a login was refused", remote=remote)
            text = "That is not the token. It is the setting CONSOLE_TOKEN of the console."
            return self._form(target, text, HTTPStatus.FORBIDDEN)
        session = self.context.sessions.begin(OPERATOR_NAME, LoginWay.TOKEN)
        return self._begin(session, remote, target)

    async def leave(self, request: web.Request) -> web.Response:
        """Lead to the provider; the browser keeps what proves that it comes back from there."""
        target = local_path(request.query.get("next", "/"))
        if self.provider is None:
            raise web.HTTPNotFound(text="No provider is set up: see CONSOLE_OIDC_ISSUER.")
        attempt = LoginAttempt.new(self.random)
        try:
            url = await self.provider.login_url(attempt)
        except OidcError as error:
            return self._refused(request, target, str(error), HTTPStatus.BAD_GATEWAY)
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": url})
        cookie = self.context.sessions.attempt({**asdict(attempt), "next": target}, LOGIN_SECONDS)
        self._set(response, LOGIN_COOKIE, cookie, LOGIN_SECONDS, LOGIN_PATH)
        return response

    async def come_back(self, request: web.Request) -> web.StreamResponse:
        """Begin a session for an operator whom the provider knows, and who is on the list."""
        kept = self.context.sessions.verify(LOGIN, request.cookies.get(LOGIN_COOKIE, ""))
        state = request.query.get("state", "")
        if self.provider is None or kept is None or not _is_same(kept["state"], state):
            text = "This login was begun elsewhere, or too long ago. Begin it again."
            return self._refused(request, "/", text, HTTPStatus.FORBIDDEN)
        target = kept["next"]
        attempt = LoginAttempt(kept["state"], kept["nonce"], kept["verifier"])
        if "code" not in request.query:
            text = "The provider has not logged you in."
            return self._refused(request, target, text, HTTPStatus.FORBIDDEN)
        try:
            claims = await self.provider.claims(request.query["code"], attempt)
        except OidcError as error:
            return self._refused(request, target, str(error), HTTPStatus.BAD_GATEWAY)
        name = self.operators.find(claims)
        if name is None:
            text = "You are not among the operators: see CONSOLE_OIDC_ACTORS."
            return self._refused(request, target, text, HTTPStatus.FORBIDDEN)
        session = self.context.sessions.begin(name, LoginWay.PROVIDER)
        response = self._begin(session, request[REMOTE], target)
        response.del_cookie(LOGIN_COOKIE, path=LOGIN_PATH)
        return response

    async def log_out(self, request: web.Request) -> web.Response:
        """End the session, so that a copy of its cookie is worth nothing, and remove the cookie."""
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/login"})
        try:
            await self.context.ended.end(request[SESSION])
        except Retry:
            response = self._form("/", AWAY, HTTPStatus.SERVICE_UNAVAILABLE)
        logger.info("an operator logged out", operator=request[SESSION].name)
        response.del_cookie(COOKIE, httponly=True, secure=self.is_secure, samesite="Lax")
        return response

    def _begin(self, session: Session, remote: str, target: str) -> web.Response:
        """Return the way to a page of this site, with the cookie of a session."""
        logger.info("an operator logged in", operator=session.name, remote=remote)
        response = web.Response(
            status=HTTPStatus.SEE_OTHER, headers={"Location": local_path(target)}
        )
        seconds = int(self.context.sessions.seconds)
        self._set(response, COOKIE, self.context.sessions.cookie(session), seconds, "/")
        return response

    def _set(self, response: web.Response, name: str, value: str, seconds: int, path: str) -> None:
        # Lax: a browser that comes back from the provider sends it, a form of another site not.
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=path,
            httponly=True,
            secure=self.is_secure,
            samesite="Lax",
        )

    def _refused(
        self, request: web.Request, target: str, reason: str, status: HTTPStatus
    ) -> web.Response:
        logger.warning("a login was refused", remote=request[REMOTE], reason=reason)
        return self._form(target, reason, status)

    def _form(
        self, target: str, mistake: str | None = None, status: int = HTTPStatus.OK
    ) -> web.Response:
        context = {
            "mistake": mistake,
            "next": local_path(target),
            "has_provider": self.provider is not None,
        }
        text = self.context.renderer.render("login.html", context)
        return web.Response(text=text, status=status, content_type="text/html")


def _is_same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode())


def local_path(target: str) -> str:
    """Return a path of this site, `/` for a URL that leads elsewhere."""
    where = urlsplit(target)
    is_local = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_local and not where.netloc and target.isprintable() else "/"
