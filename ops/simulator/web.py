"""The web application: the page, the API, and server-sent events."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from ops.simulator.api import (
    Handler,
    MailboxApi,
    NoParameters,
    ProblemError,
    problem,
    problems,
    read,
)
from ops.simulator.mailbox import Mailbox

MAX_STREAMS: Final = 100
HEARTBEAT_SECONDS: Final = 15.0  # shows which listeners have gone
EVENT_SECONDS: Final = 0.2  # between two events
BODY_LIMIT: Final = 64 * 1024  # octets of a request

# A web page can let its own name resolve to 127.0.0.1 and then read this origin, codes included
# (DNS rebinding). `Host` is then the name of that page.
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PAGE: Final = Path(__file__).parent / "page"
_FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_QUERIED: Final = {*_FILES, "/api/messages"}  # a file is the same with any query
_GUARDS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class EventStream:
    """Sends the number of mails to each listener, whenever it changes."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._streams: set[asyncio.Task[object]] = set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send events until the listener disconnects or the simulator ends."""
        if len(self._streams) >= MAX_STREAMS:
            return problem(503, "too-many-listeners", "Close another page first.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream = asyncio.ensure_future(self._send(response))
        self._streams.add(stream)
        try:
            await asyncio.wait({stream})
        finally:
            stream.cancel()
            self._streams.discard(stream)
        return response

    async def close(self, _app: web.Application) -> None:
        """Close all streams."""
        for stream in self._streams:
            stream.cancel()

    async def _send(self, response: web.StreamResponse) -> None:
        change = self._mailbox.change
        while True:
            sent = change.version
            await response.write(b'event: mailbox\ndata: {"count": %d}\n\n' % len(self._mailbox))
            await asyncio.sleep(EVENT_SECONDS)
            while change.version == sent:
                try:
                    await asyncio.wait_for(change.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    await response.write(b": heartbeat\n\n")


def application(
    views: MailboxApi, events: EventStream, hosts: Collection[str] = ()
) -> web.Application:
    """Return the application; `hosts` are allowed host names besides this machine's own."""
    middlewares = [problems, _answering_to(hosts), _checked]
    app = web.Application(middlewares=middlewares, client_max_size=BODY_LIMIT)
    router = app.router
    for path, (name, kind) in _FILES.items():
        router.add_get(path, _file(_PAGE / name, kind))
    router.add_get("/healthz", views.health)
    router.add_get("/api/messages", views.messages)
    router.add_delete("/api/messages", views.clear)
    router.add_get("/api/messages/{id}", views.message)
    router.add_delete("/api/messages/{id}", views.delete)
    router.add_get("/api/messages/{id}/raw", views.raw)
    router.add_get("/api/messages/{id}/source", views.source)
    router.add_get("/api/messages/{id}/html", views.html)
    router.add_get("/api/messages/{id}/attachments/{number:[0-9]{1,6}}", views.attachment)
    router.add_get("/api/behaviour", views.behaviour)
    router.add_put("/api/behaviour", views.behave)
    router.add_delete("/api/behaviour", views.reset_behaviour)
    router.add_get("/api/events", events.stream)
    app.on_response_prepare.append(_guard)
    app.on_shutdown.append(events.close)
    return app


def _answering_to(names: Collection[str]) -> Middleware:
    """Return a middleware that refuses requests for any host but `_LOCAL` and these."""
    allowed = _LOCAL | {name.lower() for name in names}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _host_name(request.headers.get("Host", "")) not in allowed:
            detail = "The mailbox does not answer to this host name. MAILBOX_HOSTS can allow it."
            raise ProblemError(421, "unknown-host", detail)
        return await handler(request)

    return check


def _host_name(host: str) -> str:
    """Return the host without its port, IPv6 brackets and trailing dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].removesuffix(".").lower()


@web.middleware
async def _checked(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse query parameters, which would be ignored, outside `_QUERIED`."""
    if request.path not in _QUERIED:
        read(NoParameters, request.query)
    return await handler(request)


async def _guard(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _GUARDS.items():
        response.headers.setdefault(name, value)


def _file(path: Path, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = path.read_text(encoding="utf-8")

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind)

    return answer
