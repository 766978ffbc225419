"""The HTTP endpoints for an orchestrator: alive, ready, metrics."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.config.settings import DRAIN_SECONDS
from shared.runtime.http_connections import Connections, LimitedProtocol, Limits

# Of connections that wait to be accepted. Past it Linux drops the SYN of the next connection, and
# its client repeats it after a second.
MAX_ACCEPT_BACKLOG = 1024

Check = Callable[[], Awaitable[bool]]


def routes(checks: Mapping[str, Check]) -> list[web.RouteDef]:
    """Return `/healthz`, `/readyz` and `/metrics`; ready means that every check returns True."""

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        results = {name: await check() for name, check in checks.items()}
        return web.json_response(
            {"status": "ok" if all(results.values()) else "not ready", "checks": results},
            status=200 if all(results.values()) else 503,
        )

    async def measures(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        web.get("/healthz", alive),
        web.get("/readyz", ready),
        web.get("/metrics", measures),
    ]


@contextmanager
def port_named(host: str, port: int) -> Iterator[None]:
    """Raise an OSError of one line, with host and port, if it cannot be listened there."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0  # below 0 of a name that is not found
        reason = os.strerror(number) if number > 0 else error.strerror or error
        raise OSError(f"{host}:{port} cannot be listened on: {reason}") from error


@asynccontextmanager
async def serving(
    app: web.Application,
    host: str,
    port: int,
    drain: float = DRAIN_SECONDS,
    protocol: Callable[..., LimitedProtocol] | None = None,
) -> AsyncIterator[int]:
    """Serve `app` until the block is left, and yield the port. Raises OSError if it is in use.

    At the end it accepts no more connections, closes idle ones, and waits up to `drain` seconds for
    the requests under way. A request whose client has disconnected is cancelled.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=drain, handler_cancellation=True)
    await runner.setup()
    loop = asyncio.get_running_loop()

    made = protocol or partial(LimitedProtocol, Connections(Limits()))

    def connected() -> LimitedProtocol:
        assert runner.server is not None  # noqa: S101 -- the runner is set up
        return made(runner.server, loop=loop)

    try:
        with port_named(host, port):
            # A site of the library knows only its own protocol.
            listening = await loop.create_server(connected, host, port, backlog=MAX_ACCEPT_BACKLOG)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
    finally:
        await runner.cleanup()


@asynccontextmanager
async def endpoint(host: str, port: int, checks: Mapping[str, Check]) -> AsyncIterator[int]:
    """Serve the three routes alone, for a service that has no other HTTP."""
    app = web.Application()
    app.add_routes(routes(checks))
    async with serving(app, host, port) as bound:
        yield bound
