"""What answers all requests."""

from dataclasses import dataclass

from aiohttp import web

from services.gateway.api.client_views import ClientViews
from services.gateway.api.code_views import CodeViews
from services.gateway.api.domain_views import DomainViews
from services.gateway.api.event_views import EventViews
from services.gateway.api.message_views import MessageViews


@dataclass(frozen=True, slots=True)
class Views:
    """The endpoints, by what they are about; each raises Problem, Unavailable or StoreAway."""

    messages: MessageViews
    codes: CodeViews
    events: EventViews
    domains: DomainViews
    clients: ClientViews


async def ping(_: web.Request) -> web.Response:
    """Answer with the least possible work: what bounds every other endpoint."""
    return web.Response(body=b"pong", content_type="text/plain")
