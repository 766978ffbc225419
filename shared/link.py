"""A connection to the broker that comes back by itself, for one purpose of one service."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import structlog
from yarl import URL

from shared.amqp.channel import Channel
from shared.amqp.connection import Connection
from shared.amqp.errors import AmqpError, LoginRefused, VhostRefused
from shared.amqp.handshake import DEFAULT_USER
from shared.config.url import masked
from shared.errors import Unavailable
from shared.runtime.outage import Outage, described

CONNECT_SECONDS = 10.0
RECONNECT_SECONDS = 1.0
# Each side says so often that it lives; it is given up after three times without a sign.
HEARTBEAT_SECONDS = 10

logger = structlog.get_logger(__name__)


class Link:
    """Holds a connection; made by `Link.open`, which also closes it."""

    def __init__(self, url: URL, name: str, heartbeat: int) -> None:
        self._url = url
        self.user = url.user or DEFAULT_USER  # of the broker
        self._name = name
        self._heartbeat = heartbeat
        self._outage = Outage("the broker", masked(url), "AMQP_URL")
        self._connection: Connection
        self._there = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: URL, name: str, patience: float, heartbeat: int = HEARTBEAT_SECONDS
    ) -> AsyncIterator[Self]:
        """Connect under `name`; wait `patience` seconds for a broker.

        Both sides say every `heartbeat` seconds that they live. Raises Unavailable when none
        answers, or at once when it refuses the login.
        """
        link = cls(url, name, heartbeat)
        await link._connect(patience)
        keeping = asyncio.create_task(link._keep(), name=f"link {name}")
        try:
            yield link
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await link._connection.close()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection just now."""
        return self._there.is_set() and not self._connection.lost.is_set()

    @property
    def is_writable(self) -> bool:
        """Whether the broker takes more just now."""
        return self._connection.writable.is_set()

    async def channel(self, *, confirms: bool = False, prefetch: int = 0) -> Channel:
        """Open a channel, when there is a connection. Raises Closed."""
        if self._connection.lost.is_set():
            # The loss has not been seen to yet; who tries at once again must wait for that.
            self._there.clear()
        await self._there.wait()
        return await self._connection.channel(confirms=confirms, prefetch=prefetch)

    async def writable(self) -> None:
        """Wait while the broker does not keep up, or is short of memory or disk."""
        # Again and again: those who were let go before may have filled the way once more.
        while not self._connection.writable.is_set():
            await self._connection.writable.wait()

    async def _connect(self, patience: float) -> None:
        """Connect within `patience` seconds. Raises Unavailable, at once for a refused login."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience
        while True:
            try:
                self._connection = await self._connected()
            except LoginRefused as error:
                raise Unavailable(self._refusal(error)) from error
            except (AmqpError, OSError) as error:
                if loop.time() >= give_up:
                    told = f"{self._outage.address} does not answer: {described(error)}"
                    raise Unavailable(f"{told}; {self._outage.advice(error)}") from error
                self._outage.log(error)
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                self._outage.end()
                self._there.set()
                return

    def _refusal(self, error: LoginRefused) -> str:
        of_vhost = isinstance(error, VhostRefused)
        what, part = ("virtual host", "path") if of_vhost else ("login", "user and password")
        return f"{self._outage.address} refuses the {what}: {error}; check {part} in AMQP_URL"

    async def _connected(self) -> Connection:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await Connection.open(self._url, self._name, self._heartbeat)

    async def _keep(self) -> None:
        """Connect again whenever the connection is lost, until cancelled."""
        while True:
            await self._connection.lost.wait()
            self._there.clear()
            logger.warning("connection lost", link=self._name, reason=str(self._connection.reason))
            await self._return()
            logger.info("connection is back", link=self._name)

    async def _return(self) -> None:
        """Try for as long as it takes: a publisher has a limit of time of its own."""
        while True:
            try:
                return await self._connect(math.inf)
            except Unavailable as error:  # a refused login, which may be put right meanwhile
                self._outage.log(error)
            await asyncio.sleep(RECONNECT_SECONDS)
