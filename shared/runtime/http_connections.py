"""Limits of HTTP connections: their number, in all and by address, and their idle time.

A connection costs a descriptor and some memory before its first byte. Without limits one address
takes all descriptors, and all other clients are reset (issue 10, A6).
"""

import asyncio
import collections
import ipaddress
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from prometheus_client import Counter, Gauge

from shared.runtime import metrics

IPV6_NETWORK_BITS = 64  # commonly the network of one customer
OTHER_DESCRIPTORS = 100  # of the broker, the database, files, the listening sockets
MIN_LOG_SECONDS = 10.0  # between two lines about refused connections
LINGER_SECONDS = 1.0  # between the last bytes and the end of a connection
MAX_HEADER_BYTES = 64 * 1024  # of one request in all; a line of it has at most 8,190

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest numbers of open connections, and the longest times without a request.

    The headers of the first request must come within `header_seconds`, those of the next one within
    `idle_seconds` of an answer. Load balancers keep idle connections for 60 seconds: with less here
    they would send a request into a connection that is being closed. A connection whose peer reads
    nothing of an answer for `stalled_seconds` is closed.
    """

    total: int = 100
    by_address: int = 50
    header_seconds: float = 10.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 60.0


class Connections:
    """Counts open connections; the limit by address does not hold for a proxy."""

    def __init__(
        self,
        limits: Limits,
        is_proxy: Callable[[str], bool] = lambda _: False,
        gauge: Gauge = metrics.CONNECTIONS,
        refusals: Counter = metrics.CONNECTIONS_REFUSED,
    ) -> None:
        self._gauge, self._refusals = gauge, refusals
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limits = limits
        self._total = min(limits.total, max(1, descriptors - OTHER_DESCRIPTORS))
        self._is_proxy = is_proxy
        self._open: collections.Counter[str] = collections.Counter()
        self._unlogged: collections.Counter[str] = collections.Counter()
        self._logged_at = float("-inf")

    def admit(self, address: str) -> str | None:
        """Count a connection and return None, or return the name of the limit that it exceeds."""
        if self._open.total() >= self._total:
            return "total"
        network = _network(address)
        if self._open[network] >= self.limits.by_address and not self._is_proxy(address):
            return "address"
        self._open[network] += 1
        self._gauge.inc()
        return None

    def release(self, address: str) -> None:
        """Count an admitted connection as closed."""
        network = _network(address)
        self._open[network] -= 1
        if not self._open[network]:
            del self._open[network]
        self._gauge.dec()

    def refused(self, limit: str, address: str, now: float) -> None:
        """Count a connection that a limit has ended, and log it at most every MIN_LOG_SECONDS."""
        self._refusals.labels(limit).inc()
        self._unlogged[limit] += 1
        if now >= self._logged_at + MIN_LOG_SECONDS:
            logger.warning(
                "connections refused",
                limits=dict(self._unlogged),
                remote=address,
                open=self._open.total(),
            )
            self._unlogged.clear()
            self._logged_at = now


class LimitedProtocol(web.RequestHandler):
    """The server's side of a connection with limits."""

    __slots__ = ("_admitted", "_connections", "_deadline", "_header_bytes", "_remote")

    def __init__(
        self, connections: Connections, manager: web.Server, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        # The library counts idle seconds from the last answer, even while data comes: it ends a
        # request that comes byte by byte too. None means no access log, as it does to its runner.
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=connections.limits.idle_seconds,
            # The library would decompress even a refused body, which it reads to the end: a
            # megabyte that holds a gigabyte stopped all others for 5 s (issue 10, A2).
            auto_decompress=False,
        )
        self._connections = connections
        self._admitted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._remote = ""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 400,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse in plain words what cannot be read, without those of the library; then close."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        is_long = isinstance(exc, LineTooLong)
        text = "The address or a header is too long." if is_long else "This is not HTTP."
        response = web.Response(status=status, text=f"{text}\n")
        response.force_close()
        return response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a connection, or close it if there are too many."""
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if isinstance(peer, tuple) else ""
        limit = self._connections.admit(self._remote)
        if limit:
            self._refuse(limit, cast("asyncio.Transport", transport))
            return
        self._admitted = True
        super().connection_made(transport)
        limits = self._connections.limits
        self._deadline = self._loop.call_later(limits.header_seconds, self._give_up)
        # With it Linux ends a connection whose peer reads nothing; by default it probes for ever.
        connected = transport.get_extra_info("socket")
        stalled = int(limits.stalled_seconds * 1000)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stalled)

    def data_received(self, data: bytes) -> None:
        """Read data; close a connection whose headers do not end."""
        if not self._admitted:
            return
        super().data_received(data)
        for message, _ in self._messages:
            # The parser's error refers, by its frames, to the data and to this protocol. Such a
            # cycle is collected late, and each holds some megabytes (issue 10, A6).
            if (error := getattr(message, "exc", None)) is not None:
                error.__traceback__ = None
        # The library's waiter is set while it has no request: the data are then more headers.
        if self._waiter is None or self._waiter.done():
            self._header_bytes = 0
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and self.transport is not None:
            self._refuse("headers", self.transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection as closed."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._admitted:
            self._admitted = False
            self._connections.release(self._remote)
            super().connection_lost(exc)

    def _give_up(self) -> None:
        if not self._request_count and self.transport is not None:
            self._refuse("time", self.transport)

    def _refuse(self, limit: str, transport: asyncio.Transport) -> None:
        self._connections.refused(limit, self._remote, self._loop.time())
        farewell = self.farewell(limit)
        transport.write(farewell)
        if not farewell or not self._admitted:
            transport.close()
            return
        # With unread data Linux would reset the connection, and the peer would lose the answer. A
        # closed protocol drops all further data.
        self.close()
        transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, transport.close)

    def farewell(self, limit: str) -> bytes:
        """Return the last bytes to send before a limit closes a connection."""
        del limit
        return b""


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and not found.ipv4_mapped:
        return str(ipaddress.ip_network((int(found), IPV6_NETWORK_BITS), strict=False))
    return address
