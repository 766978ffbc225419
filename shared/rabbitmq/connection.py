"""A connection to the broker that comes back by itself, and the topology made on one."""

import asyncio
import itertools
import math
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self

import aio_pika
import structlog
from aio_pika.exceptions import AMQPException, AuthenticationError, ProbableAuthenticationError
from aiormq.abc import AbstractConnection
from aiormq.channel import Channel as LibraryChannel
from aiormq.exceptions import InvalidFrameError
from yarl import URL

from shared.config.url import brokers, masked, masked_hosts, tls
from shared.errors import Unavailable
from shared.rabbitmq import frames
from shared.rabbitmq.channel import Channel, Socket
from shared.runtime.outage import Outage, described, is_refused_by_tls
from shared.topology import Exchange, Queue

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
# Each side sends one so often; aiormq gives a connection up after three intervals and 3 seconds.
HEARTBEAT_SECONDS = 9
DECLARE_SECONDS = 60.0  # of the whole topology: each quorum queue elects a leader
CHANNELS = 4  # on which queues elect at the same time: half of the time of one, eight gain no more
NOT_ALLOWED = 530  # the broker's code for a virtual host that is missing or not for this user
DEFAULT_USER = "guest"  # and its password: RabbitMQ takes it over loopback alone

# A closed channel is a RuntimeError, and so is a socket of uvloop's that was closed meanwhile.
# ValueError and TypeError: a message that no frame can hold, its id or a key is too long.
FAILURES = (AMQPException, OSError, RuntimeError, TimeoutError, TypeError, ValueError)

logger = structlog.get_logger(__name__)


class VhostRefusedError(Exception):
    """The broker has no such virtual host, or not for this user."""


# Errors that another try at once would get too.
_REFUSALS = (AuthenticationError, ProbableAuthenticationError, VhostRefusedError)


class _LibraryConnection(aio_pika.Connection):
    """aio-pika's connection on a socket that is also ours to write to."""

    def __init__(self, url: URL, ssl_context: ssl.SSLContext | None = None, **more: Any) -> None:  # noqa: ANN401 -- aio-pika's
        super().__init__(url, ssl_context=ssl_context, **more)
        self.socket = self.kwargs["transport_factory"] = Socket(ssl_context)

    @property
    def under(self) -> AbstractConnection:
        """Aiormq's connection. Raises ConnectionError when it is closed."""
        if self.transport is None:
            raise ConnectionError("the connection is closed")
        return self.transport.connection


class Connection:
    """A connection that comes back by itself; made by `open`, which also closes it."""

    def __init__(self, urls: Sequence[URL], name: str, heartbeat_seconds: int) -> None:
        self._urls = deque(urls)  # the first is that of the connection, or of the next try
        self.user = urls[0].user or DEFAULT_USER  # of the broker
        self._name = name
        self._heartbeat_seconds = heartbeat_seconds
        self._outage = Outage("the broker", ", ".join(map(masked, urls)), "AMQP_URL")
        self._connection: _LibraryConnection
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._reason = ""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        urls: Sequence[URL],
        name: str,
        patience: float,
        heartbeat_seconds: int = HEARTBEAT_SECONDS,
    ) -> AsyncIterator[Self]:
        """Connect under `name`; wait `patience` seconds for a broker that is starting.

        `urls` are those of the nodes of a cluster, in the order in which they are tried. Raises
        Unavailable when none answers, or at once when one refuses the login or our TLS.
        """
        connection = cls(urls, name, heartbeat_seconds)
        await connection._connect(patience)
        keeping = asyncio.create_task(connection._keep(), name=f"connection {name}")
        try:
            yield connection
        finally:
            keeping.cancel()
            await asyncio.wait((keeping,))
            await _close(connection._connection)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._up.is_set() and not self._lost.is_set()

    async def library(self) -> aio_pika.Connection:
        """Return aio-pika's connection, when there is one."""
        if self._lost.is_set():
            self._up.clear()  # the task that connects again has not run yet
        await self._up.wait()
        return self._connection

    async def channel(self, *, confirms: bool = False, prefetch: int = 0) -> Channel:
        """Open a channel, when there is a connection. Raises Unavailable."""
        await self.library()
        connection = self._connection
        with translated("no channel"):
            async with asyncio.timeout(CONNECT_SECONDS):
                # aio-pika's channel is this one in a wrapper, of which nothing would be used.
                opened = await connection.under.channel(
                    publisher_confirms=confirms, on_return_raises=confirms
                )
                assert isinstance(opened, LibraryChannel)  # noqa: S101 -- more than its abstract class
                if prefetch:
                    await opened.basic_qos(prefetch_count=prefetch)
        return Channel(opened, connection.socket)

    async def _connect(self, patience: float) -> None:
        """Connect within `patience` seconds. Raises Unavailable, at once when it is refused.

        Each node is tried once in RECONNECT_SECONDS, and once at least.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience
        for tries in itertools.count(1):
            try:
                self._connection = await self._connected(self._urls[0])
            except _REFUSALS as error:
                raise Unavailable(f"{masked(self._urls[0])} {_refusal(error)}") from error
            except Exception as error:  # a service must connect again after any error
                is_last = loop.time() >= give_up and tries >= len(self._urls)
                if is_refused_by_tls(error) or is_last:
                    raise Unavailable(self._outage.failure(error)) from error
                self._outage.log(error)
                self._urls.rotate(-1)
                await asyncio.sleep(RECONNECT_SECONDS / len(self._urls))
            else:
                self._outage.end()
                self._lost.clear()
                self._connection.close_callbacks.add(self._on_close)
                if not self._connection.connected.is_set():
                    self._lost.set()  # already, before there was a callback
                self._up.set()
                return

    async def _connected(self, url: URL) -> _LibraryConnection:
        try:
            with only_own_cancellation():
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await aio_pika.connect(
                        url,
                        connection_class=_LibraryConnection,
                        ssl_context=tls(url),
                        heartbeat=self._heartbeat_seconds,
                        name=self._name,
                    )
        except InvalidFrameError as error:
            refusal = frames.refused_by(error)
            # A limit of connections has the same code, and others may close theirs.
            if refusal.startswith(f"{NOT_ALLOWED} ") and "limit" not in refusal:
                raise VhostRefusedError(refusal) from error
            raise ConnectionError(refusal) from error
        except StopAsyncIteration as error:  # aiormq 7 found the end of the stream
            raise ConnectionError("it closed the socket while the connection was opened") from error

    def _on_close(self, _connection: object, error: BaseException | None) -> None:
        self._reason = str(error)
        self._lost.set()

    async def _keep(self) -> None:
        """Connect again whenever the connection is lost, until cancelled.

        It tries for as long as it takes: each publisher has a limit of time of its own. The node
        that was lost is tried last.
        """
        while True:
            await self._lost.wait()
            self._up.clear()
            self._urls.rotate(-1)
            logger.warning("connection lost", connection=self._name, reason=self._reason)
            while not self._up.is_set():
                try:
                    await self._connect(math.inf)
                    logger.info("connection is back", connection=self._name)
                except Unavailable as error:  # a refused login, which may be put right meanwhile
                    self._outage.log(error)
                    self._urls.rotate(-1)
                    await asyncio.sleep(RECONNECT_SECONDS)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise Unavailable for what the library raises, with `what` before its reason.

    A failure of a narrower type keeps it.
    """
    try:
        with only_own_cancellation():
            yield
    except FAILURES as error:
        kind = type(error) if isinstance(error, Unavailable) else Unavailable
        raise kind(f"{what}: {described(error)}") from error


@contextmanager
def only_own_cancellation() -> Iterator[None]:
    """Raise ConnectionError for a CancelledError that is no cancellation of the current task.

    aiormq 7 fails what waits by such an error when a connection misses its heartbeats.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was lost") from None


def _refusal(error: Exception) -> str:
    is_vhost = isinstance(error, VhostRefusedError)
    what, part = ("virtual host", "path") if is_vhost else ("login", "user and password")
    return f"refuses the {what}: {described(error)}; check {part} in AMQP_URL"


async def _close(connection: _LibraryConnection) -> None:
    with suppress(Unavailable), translated("not closed"):
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()


async def declare(url: str, exchanges: Iterable[Exchange], queues: Sequence[Queue]) -> None:
    """Make exchanges, queues and bindings; harmless when they are there already.

    Raises Unavailable, also when one is there with other arguments: those can never be changed.
    """
    async with Connection.open(brokers(url), "declare", 0) as connection:
        with translated(masked_hosts(url)):
            async with asyncio.timeout(DECLARE_SECONDS):
                library = await connection.library()
                async with library.channel() as channel:
                    await _declare_exchanges(channel, exchanges)
                left = iter(queues)  # shared by all channels
                await asyncio.gather(*(_declare_queues(library, left) for _ in range(CHANNELS)))


async def _declare_exchanges(
    channel: aio_pika.abc.AbstractChannel, exchanges: Iterable[Exchange]
) -> None:
    for exchange in exchanges:
        alternate = exchange.alternate
        arguments: dict[str, Any] = {"alternate-exchange": alternate} if alternate else {}
        await channel.declare_exchange(
            exchange.name,
            exchange.kind,
            durable=True,
            arguments=arguments,
        )


async def _declare_queues(
    library: aio_pika.abc.AbstractConnection, queues: Iterable[Queue]
) -> None:
    async with library.channel() as channel:
        for queue in queues:
            declared = await channel.declare_queue(
                queue.name, durable=True, arguments=dict(queue.arguments)
            )
            for binding in queue.bindings:
                await declared.bind(binding.exchange, binding.key)
