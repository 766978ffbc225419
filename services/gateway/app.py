"""The application: the view of each operation, the key that it asks for, and the page `/docs`."""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway.api import (
    batch,
    clients,
    codes,
    content_types,
    domains,
    events,
    feedback,
    links,
    messages,
    openapi,
    records,
    runs,
    stats,
    subscriptions,
    suppressions,
    tasks,
    webhook_tries,
    webhooks,
)
from services.gateway.api.batch import BatchViews
from services.gateway.api.clients import ClientViews
from services.gateway.api.codes import CodeViews
from services.gateway.api.content_types import ContentTypeViews
from services.gateway.api.domains import DomainViews
from services.gateway.api.events import EventViews
from services.gateway.api.feedback import FeedbackViews
from services.gateway.api.links import LinkViews
from services.gateway.api.messages import MessageViews
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import unauthorized
from services.gateway.api.records import RecordViews
from services.gateway.api.request import (
    ADMIN,
    CLIENT,
    CLIENT_ADDRESS,
    RATE_LIMIT,
    View,
    check_scope,
    expect,
)
from services.gateway.api.response import ResponseBody
from services.gateway.api.runs import RunViews
from services.gateway.api.stats import StatsViews
from services.gateway.api.subscriptions import SubscriptionViews
from services.gateway.api.suppressions import SuppressionViews
from services.gateway.api.tasks import TaskViews
from services.gateway.api.webhook_tries import WebhookTryViews
from services.gateway.clients.clients import Client
from services.gateway.clients.keys import ApiKeys, InvalidApiKey
from services.gateway.clients.rate_limiter import RateLimiter
from services.gateway.clients.store import ClientStore
from services.gateway.middleware import (
    RequestLimit,
    add_common_headers,
    explain_errors,
    observe,
)
from shared.client_address import Network
from shared.runtime import health
from shared.runtime.health import Check

# The page shows the OpenAPI document to people.
_PAGE_FOLDER = Path(__file__).parent / "page"
# All URLs in the page are relative, so that it works behind a proxy that adds a prefix.
_PAGE_FILES: Mapping[str, str] = {
    "/docs": "page.html",
    "/docs/page.css": "page.css",
    "/docs/page.js": "page.js",
    "/docs/swagger-ui.css": "swagger-ui/swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
}
_PAGE_HEADERS: Mapping[str, str] = {
    # Requests go to this origin alone: a person may type a key into the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked for again by the ETag of the library
}


class Health(ResponseBody):
    """Whether the service works, with each check by name."""

    status: str
    checks: dict[str, bool] | None = None


_HEALTHY = Success(200, "It works", Health)
GET_DOCUMENT = Operation(
    "getDocument",
    "GET /v1/openapi.json",
    "Get this document",
    (Success(200, "OpenAPI 3.1"),),
    Access.PUBLIC,
)
PING = Operation(
    "ping",
    "GET /ping",
    "Get an answer with the least possible work",
    (Success(200, "pong", media_type="text/plain"),),
    Access.PUBLIC,
)
HEALTH = (
    Operation("live", "GET /healthz", "Is it alive?", (_HEALTHY,), Access.PUBLIC),
    Operation(
        "ready",
        "GET /readyz",
        "Can it work?",
        (_HEALTHY, Success(503, "Something it needs is away", Health)),
        Access.PUBLIC,
    ),
    Operation(
        "metrics",
        "GET /metrics",
        "Get the counters in Prometheus' format",
        (Success(200, "The counters", media_type="text/plain"),),
        Access.PUBLIC,
    ),
)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks the keys in Authorization headers; no response reveals why one was refused."""

    store: ClientStore
    keys: ApiKeys
    admin_token: bytes = field(repr=False)
    clock: Callable[[], datetime]

    async def client(self, authorization: str | None, remote: str) -> Client:
        """Return the client of a key that is valid at `remote`, the address of its user.

        Raises Problem or StoreUnavailable.
        """
        try:
            return await self.verify(_bearer_token(authorization), remote)
        except InvalidApiKey as error:
            raise unauthorized(str(error)) from None

    async def verify(self, token: str, remote: str) -> Client:
        """Return the client of a token that is a valid key at `remote`.

        Raises InvalidApiKey or StoreUnavailable.
        """
        key = self.keys.verify(token)
        client = await self.store.client(key)
        if client is None:
            raise InvalidApiKey("Revoked")
        if refusal := client.refusal(remote, self.clock()):
            raise InvalidApiKey(refusal)
        return client

    def check_admin(self, authorization: str | None) -> None:
        """Check the administrator's token. Raises Problem."""
        if not self.is_admin(authorization):
            raise unauthorized("NotTheAdministrator")

    def is_admin(self, authorization: str | None) -> bool:
        """Return whether the token is the administrator's. Raises Problem for none at all."""
        return hmac.compare_digest(_bearer_token(authorization).encode(), self.admin_token)


@dataclass(frozen=True, slots=True)
class Api:
    """The views by resource, which raise Problem, Unavailable or NoAnswer, and their guards."""

    messages: MessageViews
    batch: BatchViews
    tasks: TaskViews
    codes: CodeViews
    events: EventViews
    feedback: FeedbackViews
    domains: DomainViews
    records: RecordViews
    stats: StatsViews
    suppressions: SuppressionViews
    content_types: ContentTypeViews
    runs: RunViews
    subscriptions: SubscriptionViews
    webhooks: WebhookTryViews
    links: LinkViews | None  # None without a key that reads them
    clients: ClientViews
    authenticator: Authenticator
    rate_limiter: RateLimiter
    request_limit: RequestLimit


def document_view() -> View:
    """Return the view of the OpenAPI document, which is made here once."""
    document = orjson.dumps(openapi.document(OPERATIONS), option=orjson.OPT_APPEND_NEWLINE)

    async def get_document(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    return get_document


async def ping(_: web.Request) -> web.Response:
    """Return a response with the least possible work: the bound of every other endpoint."""
    return web.Response(body=b"pong", content_type="text/plain")


VIEWS: Mapping[Operation, Callable[[Api], View]] = {
    messages.POST_MESSAGE: lambda api: api.messages.post,
    batch.POST_BATCH: lambda api: api.batch.post,
    tasks.POST_TASK: lambda api: api.tasks.post,
    codes.POST_CODE: lambda api: api.codes.post,
    codes.VERIFY_CODE: lambda api: api.codes.verify,
    codes.DELETE_CODE: lambda api: api.codes.delete,
    events.PUT_DELIVERED: lambda api: api.events.put_delivered,
    events.PUT_BOUNCED: lambda api: api.events.put_bounced,
    events.POST_EVENTS: lambda api: api.events.post,
    feedback.POST_FEEDBACK: lambda api: api.feedback.post,
    domains.LIST_DOMAINS: lambda api: api.domains.list,
    domains.COUNT_DOMAINS: lambda api: api.domains.count,
    domains.GET_DOMAIN: lambda api: api.domains.get,
    records.LIST_MESSAGES: lambda api: api.records.list,
    records.GET_MESSAGE: lambda api: api.records.get,
    records.PATCH_MESSAGE: lambda api: api.records.patch,
    records.DELETE_MESSAGE: lambda api: api.records.delete,
    stats.GET_STATS: lambda api: api.stats.get,
    suppressions.LIST_SUPPRESSIONS: lambda api: api.suppressions.list,
    suppressions.GET_SUPPRESSION: lambda api: api.suppressions.get,
    suppressions.PUT_SUPPRESSION: lambda api: api.suppressions.put,
    suppressions.DELETE_SUPPRESSION: lambda api: api.suppressions.delete,
    suppressions.POST_SUPPRESSIONS: lambda api: api.suppressions.post,
    content_types.POST_CONTENT_TYPE: lambda api: api.content_types.post,
    content_types.LIST_CONTENT_TYPES: lambda api: api.content_types.list,
    content_types.GET_CONTENT_TYPE: lambda api: api.content_types.get,
    content_types.PUT_CONTENT_TYPE: lambda api: api.content_types.put,
    content_types.DELETE_CONTENT_TYPE: lambda api: api.content_types.delete,
    content_types.PREVIEW_CONTENT_TYPE: lambda api: api.content_types.preview,
    content_types.RESUME_CONTENT_TYPE: lambda api: api.content_types.resume,
    runs.LIST_RUNS: lambda api: api.runs.list,
    runs.GET_RUN: lambda api: api.runs.get,
    runs.REPEAT_RUN: lambda api: api.runs.repeat,
    subscriptions.POST_SUBSCRIPTION: lambda api: api.subscriptions.post,
    subscriptions.LIST_SUBSCRIPTIONS: lambda api: api.subscriptions.list,
    subscriptions.GET_SUBSCRIPTION: lambda api: api.subscriptions.get,
    subscriptions.DELETE_SUBSCRIPTION: lambda api: api.subscriptions.delete,
    webhooks.POST_WEBHOOK: lambda api: api.webhooks.post,
    webhooks.LIST_WEBHOOKS: lambda api: api.webhooks.list,
    webhooks.GET_WEBHOOK: lambda api: api.webhooks.get,
    webhooks.PATCH_WEBHOOK: lambda api: api.webhooks.patch,
    webhooks.DELETE_WEBHOOK: lambda api: api.webhooks.delete,
    webhooks.ROTATE_SECRET: lambda api: api.webhooks.rotate,
    webhook_tries.TEST_WEBHOOK: lambda api: api.webhooks.test,
    webhook_tries.REPLAY_WEBHOOK: lambda api: api.webhooks.replay,
    webhook_tries.LIST_DELIVERIES: lambda api: api.webhooks.list_deliveries,
    webhook_tries.LIST_TRIES: lambda api: api.webhooks.list_tries,
    clients.POST_CLIENT: lambda api: api.clients.post,
    clients.LIST_CLIENTS: lambda api: api.clients.list,
    clients.GET_CLIENT: lambda api: api.clients.get,
    clients.PATCH_CLIENT: lambda api: api.clients.patch,
    clients.DELETE_CLIENT: lambda api: api.clients.delete,
    clients.POST_KEY: lambda api: api.clients.post_key,
    clients.DELETE_KEY: lambda api: api.clients.delete_key,
    GET_DOCUMENT: lambda _: document_view(),
    PING: lambda _: ping,
}
OPERATIONS = (*VIEWS, *HEALTH)


def build_app(
    api: Api,
    checks: Mapping[str, Check],
    max_body_bytes: int,
    proxies: Sequence[Network] = (),
    *,
    with_docs: bool = True,
) -> web.Application:
    """Return the application, with the page `/docs` if asked; `checks` are those of `/readyz`.

    X-Forwarded-For is believed from `proxies`.
    """
    app = web.Application(
        middlewares=[observe(proxies), explain_errors, api.request_limit.admit],
        client_max_size=max_body_bytes,
    )
    app.on_response_prepare.append(add_common_headers)
    app.add_routes(
        web.route(
            operation.method,
            _pattern(operation.path),
            _guarded(operation, view(api), api),
            expect_handler=expect,
        )
        for operation, view in VIEWS.items()
    )
    app.add_routes(health.routes(checks))
    if with_docs:
        app.add_routes(docs_routes())
    if api.links is not None:
        app.add_routes(link_routes(api.links))
    return app


def link_routes(views: LinkViews) -> Sequence[web.RouteDef]:
    """Return the routes of the pages behind the links in mails, which need no key."""
    return [
        web.get(links.UNSUBSCRIBE_PATH, views.show_unsubscribe),
        web.post(links.UNSUBSCRIBE_PATH, views.unsubscribe, expect_handler=expect),
        web.get(links.CONFIRM_PATH, views.show_confirm),
        web.post(links.CONFIRM_PATH, views.confirm, expect_handler=expect),
    ]


def _pattern(path: str) -> str:
    """Return the path for the router, where `{id}` matches no name that has a path of its own.

    Else DELETE /v1/otp/verify would cancel a code of that id, and not be a 405 (issue 10, H4).
    """
    parent, _, last = path.rpartition("/")
    if not last.startswith("{"):
        return path
    paths = (each.path.rpartition("/") for each in OPERATIONS)
    taken = [re.escape(name) for above, _, name in paths if above == parent and name[:1] != "{"]
    # (?!…) because an alternation in a group would be another name to the router.
    none_of = "".join(f"(?!{name}$)" for name in taken)
    return f"{parent}/{last[:-1]}:{none_of}[^/]+}}"


def _guarded(operation: Operation, view: View, api: Api) -> View:
    """Return the view behind a check of the key and the scope that the operation asks for."""

    async def for_client(request: web.Request) -> web.Response:
        key, remote = request.headers.get("Authorization"), request[CLIENT_ADDRESS]
        client = await api.authenticator.client(key, remote)
        request[CLIENT] = client
        request[RATE_LIMIT] = await api.rate_limiter.admit(client.id)
        check_scope(client, operation.scope)
        return await view(request)

    async def for_admin(request: web.Request) -> web.Response:
        api.authenticator.check_admin(request.headers.get("Authorization"))
        request[CLIENT] = ADMIN
        return await view(request)

    async def for_any(request: web.Request) -> web.Response:
        is_admin = api.authenticator.is_admin(request.headers.get("Authorization"))
        return await (for_admin if is_admin else for_client)(request)

    match operation.access:
        case Access.PUBLIC:
            return view
        case Access.CLIENT:
            return for_client
        case Access.ADMIN:
            return for_admin
        case Access.ANY:
            return for_any


def _bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header (RFC 6750 2.1). Raises Problem."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    # Beyond ASCII the header holds surrogate escapes, which nothing could encode.
    if scheme.lower() != "bearer" or not token.isascii():
        raise unauthorized("NoBearerToken")
    return token


def docs_routes() -> list[web.RouteDef]:
    """Return the routes of the page and its files; none of them asks for a key."""
    return [web.get(path, _page_file(_PAGE_FOLDER / name)) for path, name in _PAGE_FILES.items()]


def _page_file(path: Path) -> Handler:
    async def get_file(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=_PAGE_HEADERS)

    return get_file
