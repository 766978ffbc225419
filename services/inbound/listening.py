"""The ports of the doors: their certificates, and the end of their connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from services.inbound.smtp import HANDSHAKE_SECONDS, OpenConnections
from shared.runtime import lifecycle
from shared.runtime.health import MAX_ACCEPT_BACKLOG, port_named

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def certified(certificate: Path, key: Path, seconds: float) -> AsyncIterator[ssl.SSLContext]:
    """Yield the TLS of a server, and read its files again every `seconds`: they may be renewed.

    Raises OSError when they cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8314 4.1

    async def load() -> None:
        await asyncio.to_thread(context.load_cert_chain, certificate, key)

    await load()
    async with lifecycle.repeating(load, seconds, "certificate"):
        yield context


@asynccontextmanager
async def listening(
    make: Callable[[], asyncio.BaseProtocol],
    host: str,
    port: int,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Listen until the block is left, and yield the port. Raises OSError if it is in use.

    With a context the connections are encrypted from their start.
    """
    with port_named(host, port):
        server = await asyncio.get_running_loop().create_server(
            *(make, host, port),
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
            backlog=MAX_ACCEPT_BACKLOG,
        )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def drained(opened: OpenConnections, seconds: float) -> AsyncIterator[None]:
    """End the connections after the block: the busy ones after their mail, within `seconds`."""
    try:
        yield
    finally:
        opened.close()
        try:
            async with asyncio.timeout(seconds):
                await opened.until_none()
        except TimeoutError:
            logger.warning("connections were cut", open=len(opened))
        finally:
            opened.abort()
