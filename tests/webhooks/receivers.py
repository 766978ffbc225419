"""Receivers of webhooks over https, well-behaved and not; and fixtures for the whole tree."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook as Verifier

from tests.waiting import PATIENCE_SECONDS

LOOPBACK = "127.0.0.1"
HOST = "shop.example"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Names(AbstractResolver):
    """Resolves every name to the next of some addresses, to the last one for ever."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = [*addresses]
        self.asked = list[str]()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return one address."""
        del family
        self.asked.append(host)
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Close nothing."""


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        """The header webhook-id."""
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:  # noqa: ANN401 -- whatever JSON holds
        """Return the payload, checked by the reference library. Raises its error."""
        return Verifier(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """A receiver that records requests, and answers each path by a status, 200 by default."""

    port: int = 0
    got: list[Received] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Answering] = field(default_factory=dict)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "/hooks", host: str = HOST) -> str:
        """Return the URL of a path."""
        return f"https://{host}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Record a request and answer it."""
        body = await request.read()
        async with self.arrived:
            self.got.append(Received(request.path, dict(request.headers), body))
            self.arrived.notify_all()
        if request.path in self.answers:
            return await self.answers[request.path](request)
        return web.Response(status=self.statuses.get(request.path, 200), text="thanks")

    async def wait(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition of what has come holds."""
        async with asyncio.timeout(PATIENCE_SECONDS), self.arrived:
            await self.arrived.wait_for(holds)

    async def count(self, number: int) -> None:
        """Wait until so many requests have come."""
        await self.wait(lambda: len(self.got) >= number)

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How often each event came to each path."""
        return Counter((each.path, each.message_id) for each in self.got)


def answer_after(released: asyncio.Event) -> Answering:
    """Return the answer of a receiver that hangs until an event is set."""

    async def hang(request: web.Request) -> web.Response:
        del request
        await released.wait()
        return web.Response()

    return hang


def tls(authority: trustme.CA, *hosts: str) -> ssl.SSLContext:
    """Return a server's TLS context for some hosts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(hosts or (HOST, LOOPBACK))).configure_cert(context)
    return context


@asynccontextmanager
async def receiving(authority: trustme.CA, *hosts: str) -> AsyncIterator[Receiver]:
    """Run a receiver on all addresses of this host."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0, ssl_context=tls(authority, *hosts))  # noqa: S104 -- for tests with several addresses
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(authority: trustme.CA, talk: Talk) -> AsyncIterator[str]:
    """Run a receiver of bytes; the value is its URL."""
    tasks = set[asyncio.Task[None]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, ssl.SSLError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, LOOPBACK, 0, ssl=tls(authority))
    async with server:
        yield f"https://{HOST}:{server.sockets[0].getsockname()[1]}/hooks"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Write the authority's certificate into a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def receiver(authority: trustme.CA) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    async with receiving(authority) as running:
        yield running
