"""The application: which view answers what, and who may ask."""

import re
from collections.abc import Mapping, Sequence

import orjson
from aiohttp import web

from services.gateway import intake
from services.gateway.api import openapi, operations
from services.gateway.api.operation import Access, Operation
from services.gateway.api.views import Views, ping
from services.gateway.client_address import Network
from services.gateway.clients.clients import Client, Clients
from services.gateway.clients.rate_limiter import RateLimiter
from services.gateway.clients.senders import AllowedSenders
from services.gateway.middleware import explain, harden, watching
from services.gateway.request import CLIENT, View
from shared.runtime import health
from shared.runtime.health import Check

# Who the administrator is in the log; no client can have this id.
ADMIN = Client("(admin)", AllowedSenders([]))


def build_app(
    views: Views,
    rate_limiter: RateLimiter,
    checks: Mapping[str, Check],
    max_body: int,
    proxies: Sequence[Network] = (),
) -> web.Application:
    """Make the application; `max_body` is in bytes, `checks` are those of `/readyz`.

    `proxies` are believed when they say whom they were called by.
    """
    app = web.Application(middlewares=[watching(proxies), explain], client_max_size=max_body)
    app.on_response_prepare.append(harden)
    clients = views.clients.clients
    app.add_routes(
        _route(operation, _guarded(operation.access, view, clients, rate_limiter))
        for operation, view in _table(views)
    )
    app.add_routes(health.routes(checks))
    return app


def _table(views: Views) -> list[tuple[Operation, View]]:
    return [
        (operations.POST_MESSAGE, views.messages.post),
        (operations.POST_CODE, views.codes.post),
        (operations.VERIFY_CODE, views.codes.verify),
        (operations.DELETE_CODE, views.codes.delete),
        (operations.PUT_DELIVERED, views.events.put_delivered),
        (operations.PUT_BOUNCED, views.events.put_bounced),
        (operations.POST_EVENTS, views.events.post),
        (operations.LIST_DOMAINS, views.domains.list),
        (operations.COUNT_DOMAINS, views.domains.count),  # before what would take it for a domain
        (operations.GET_DOMAIN, views.domains.get),
        (operations.POST_CLIENT, views.clients.post),
        (operations.DELETE_CLIENT, views.clients.delete),
        (operations.GET_DOCUMENT, _document_view()),
        (operations.PING, ping),
    ]


def _route(operation: Operation, view: View) -> web.RouteDef:
    return web.route(operation.method, _pattern(operation.path), view, expect_handler=intake.expect)


def _pattern(path: str) -> str:
    """Return the path for the router, where `{id}` matches no name that has a path of its own.

    Else DELETE /v1/otp/verify would cancel a code of that id, and not be a 405 (issue 10, H4).
    """
    parent, _, last = path.rpartition("/")
    if not last.startswith("{"):
        return path
    paths = (each.path.rpartition("/") for each in operations.OPERATIONS)
    taken = [re.escape(name) for above, _, name in paths if above == parent and name[:1] != "{"]
    # (?!…) because an alternation in a group would be another name to the router.
    none_of = "".join(f"(?!{name}$)" for name in taken)
    return f"{parent}/{last[:-1]}:{none_of}[^{{}}/]+}}"


def _guarded(access: Access, view: View, clients: Clients, rate_limiter: RateLimiter) -> View:
    """Let only those by who have the key that the operation asks for, as often as they may."""

    async def for_client(request: web.Request) -> web.Response:
        client = await clients.authenticate(request.headers.get("Authorization"))
        request[CLIENT] = client
        await rate_limiter.admit(client.id)
        return await view(request)

    async def for_admin(request: web.Request) -> web.Response:
        clients.authenticate_admin(request.headers.get("Authorization"))
        request[CLIENT] = ADMIN
        return await view(request)

    match access:
        case Access.PUBLIC:
            return view
        case Access.CLIENT:
            return for_client
        case Access.ADMIN:
            return for_admin


def _document_view() -> View:
    document = orjson.dumps(openapi.document(), option=orjson.OPT_APPEND_NEWLINE)

    async def get_document(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    return get_document
