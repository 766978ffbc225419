"""A web server in the place of Amazon SNS."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import aiohttp
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.gateway.feedback.samples import signer


@dataclass
class FakeSns(AbstractResolver):
    """A web server for all of the world's names, and the requests that it got."""

    answer: web.Response | None = None
    got: list[str] = field(default_factory=list)
    port: int = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the address of this server for any name."""
        del port
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=self.port, family=family, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    async def handle(self, request: web.Request) -> web.Response:
        """Record a request and return the answer of the test, else the certificate."""
        self.got.append(str(request.rel_url))
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body)
        return web.Response(body=signer().pem)

    def connector(self, trusting: ssl.SSLContext) -> Callable[[], aiohttp.BaseConnector]:
        """Return a maker of connectors that lead here."""
        return partial(
            aiohttp.TCPConnector,
            resolver=self,
            ssl=trusting,
            use_dns_cache=False,
            family=socket.AF_INET,
        )

    @classmethod
    @asynccontextmanager
    async def serving(cls, authority: trustme.CA) -> AsyncIterator[Self]:
        """Serve https://sns.eu-west-1.amazonaws.com on this machine."""
        fake = cls()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("sns.eu-west-1.amazonaws.com").configure_cert(context)
        app = web.Application()
        app.router.add_get("/{path:.*}", fake.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        fake.port = runner.addresses[0][1]
        try:
            yield fake
        finally:
            await runner.cleanup()
