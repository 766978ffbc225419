"""The requests to endpoints over https, to addresses that were checked."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.webhooks import signing
from services.webhooks.addresses import Network, may_call
from shared.contracts.webhooks import (
    MAX_ANSWER_CHARS,
    MAX_ERROR_CHARS,
    MAX_HEADER_CHARS,
    MAX_HEADERS,
)
from shared.runtime import tracing

MAX_ANSWER_BYTES = MAX_ANSWER_CHARS  # kept; the rest is not read
MAX_HEADER_BYTES = 16 << 10  # of one line of an answer; a longer one is an error
# Servers close idle connections after 5 s (Node) or later; one that is closed just then would cost
# a try.
IDLE_SECONDS = 4.0


class Forbidden(OSError):
    """The name of a receiver leads to no address that may be called."""


@dataclass(frozen=True, slots=True)
class ReceiverAnswer:
    """The answer to a request, or the error in words."""

    headers: dict[str, str]  # of the request
    at: datetime  # its start
    seconds: float
    status: int | None = None
    answer_headers: dict[str, str] | None = None
    body: bytes = b""  # its beginning
    error: str | None = None
    forbidden: bool = False
    retry_after: float | None = None  # seconds


class PublicResolver(AbstractResolver):
    """Resolves names to addresses that may be called.

    The connector connects to the very addresses that this returns, so a name that leads elsewhere a
    moment later changes nothing.
    """

    def __init__(self, resolver: AbstractResolver, allowed: Sequence[Network]) -> None:
        self._resolver = resolver
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host that may be called. Raises OSError, Forbidden for none."""
        found = await self._resolver.resolve(host, port, family)
        fit = [each for each in found if may_call(each["host"], self._allowed)]
        if found and not fit:
            raise Forbidden(f"{host} leads to an address that is not public")
        return fit

    async def check(self, url: URL) -> None:
        """Raise as `resolve` does; the connector asks it about no host that is an address."""
        host = url.host or ""
        if _is_address(host):
            if not may_call(host, self._allowed):
                raise Forbidden(f"{host} is not a public address")
        else:
            await self.resolve(url.raw_host or host, url.port or 0)

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


class WebhookRequester:
    """Sends requests, each to its end within `try_seconds`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        resolver: PublicResolver,
        try_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self._session = session
        self._resolver = resolver
        self._try_seconds = try_seconds
        self._now = now

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        try_seconds: float,
        allowed: Sequence[Network] = (),
        ca_file: Path | None = None,
        resolver: AbstractResolver | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> AsyncIterator[Self]:
        """Open it with an empty pool of connections; `ca_file` has further authorities."""
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        public = PublicResolver(resolver or aiohttp.AsyncResolver(), allowed)
        connector = aiohttp.TCPConnector(
            resolver=public,
            use_dns_cache=False,  # or an address would not be checked at every attempt
            ssl=context,
            limit=0,  # the dispatcher has limits
            keepalive_timeout=IDLE_SECONDS,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy would resolve names by itself
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        ) as session:
            yield cls(session, public, try_seconds, now)

    async def send(
        self, url: str, message_id: str, body: bytes, secrets: Sequence[bytes]
    ) -> ReceiverAnswer:
        """Send a message once. An error of the receiver or the network is a value.

        Cancelled, the connection is closed, and the receiver may have the message.
        """
        at, begun, target = self._now(), time.monotonic(), URL(url, encoded=True)
        host = target.host_port_subcomponent or ""
        headers = signing.headers(secrets, host, message_id, int(at.timestamp()), body)
        headers |= tracing.current.get().headers
        ended = _Ended()
        try:
            async with asyncio.timeout(self._try_seconds):
                await self._resolver.check(target)
                await self._exchange(target, headers, body, ended)
        except TimeoutError:
            ended.error = f"no answer in {self._try_seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            ended.fail(error)
        if ended.status is not None and ended.error is not None:
            ended.error = f"the answer broke off: {ended.error}"[:MAX_ERROR_CHARS]
        return ReceiverAnswer(
            headers=headers,
            at=at,
            seconds=time.monotonic() - begun,
            status=ended.status,
            answer_headers=ended.headers,
            body=ended.body[:MAX_ANSWER_BYTES],
            error=ended.error,
            forbidden=ended.forbidden,
            retry_after=_retry_after(ended.headers.get("Retry-After"), at),
        )

    async def _exchange(
        self, url: URL, headers: dict[str, str], body: bytes, ended: "_Ended"
    ) -> None:
        """Send a request; the status counts, also if the answer's body breaks off."""
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            ended.status = response.status
            ended.headers = _shown(response)
            while len(ended.body) < MAX_ANSWER_BYTES:
                part = await response.content.read(MAX_ANSWER_BYTES - len(ended.body))
                if not part:
                    return
                ended.body += part
            # What is not read is not waited for; the connection cannot be used again.
            if not response.content.at_eof():
                response.close()


class _Ended:
    """The facts that are known of a request so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.error: str | None = None
        self.forbidden = False

    def fail(self, error: Exception) -> None:
        """Note an error in words."""
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        self.forbidden = isinstance(cause, Forbidden)
        text = str(cause) if self.forbidden else f"{type(error).__name__}: {error}"
        self.error = text[:MAX_ERROR_CHARS]


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except OSError:
            continue
        return True
    return False


def _shown(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the headers of an answer, the first of each name, cut to a size that is kept."""
    shown = dict[str, str]()
    for name, value in response.headers.items():
        if len(shown) < MAX_HEADERS:
            text = value.encode(errors="replace").decode()  # no surrogates
            shown.setdefault(name[:MAX_HEADER_CHARS], text[:MAX_HEADER_CHARS])
    return shown


def _retry_after(text: str | None, at: datetime) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 10.2.3); None if it has none."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return float(text[:10])
    try:
        return (parsedate_to_datetime(text) - at).total_seconds()
    except (ValueError, TypeError):
        return None
