"""The application: which view answers what, and who may ask."""

from collections.abc import Mapping

import orjson
from aiohttp import web

from services.gateway import openapi, operations
from services.gateway.clients import Clients
from services.gateway.middleware import explain, harden, watch
from services.gateway.operations import Access, Operation
from services.gateway.views import CLIENT, View, Views, ping
from shared import health
from shared.health import Check

ADMIN = "(admin)"  # who the administrator is in the log; no client can have this id


def build_app(views: Views, checks: Mapping[str, Check], max_body: int) -> web.Application:
    """Make the application; `max_body` is in bytes, `checks` are those of `/readyz`."""
    app = web.Application(middlewares=[watch, explain], client_max_size=max_body)
    app.on_response_prepare.append(harden)
    app.add_routes(
        _route(operation, _guarded(operation.access, view, views.clients))
        for operation, view in _table(views)
    )
    app.add_routes(health.routes(checks))
    return app


def _table(views: Views) -> list[tuple[Operation, View]]:
    return [
        (operations.POST_MESSAGE, views.post_message),
        (operations.POST_CODE, views.post_code),
        (operations.VERIFY_CODE, views.verify_code),
        (operations.PUT_DELIVERED, views.put_delivered),
        (operations.PUT_BOUNCED, views.put_bounced),
        (operations.GET_DOMAIN, views.get_domain),
        (operations.POST_CLIENT, views.post_client),
        (operations.DELETE_CLIENT, views.delete_client),
        (operations.GET_DOCUMENT, _document_view()),
        (operations.PING, ping),
    ]


def _route(operation: Operation, view: View) -> web.RouteDef:
    return web.route(operation.method, operation.path, view)


def _guarded(access: Access, view: View, clients: Clients) -> View:
    """Let only those by who have the key that the operation asks for."""

    async def for_client(request: web.Request) -> web.Response:
        request[CLIENT] = await clients.authenticate(request.headers.get("Authorization"))
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
    document = orjson.dumps(openapi.document())

    async def get_document(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    return get_document
