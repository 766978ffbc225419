"""An SMTP port and its connections."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EADDRINUSE
from typing import Final, Self
from weakref import WeakSet

from ops.simulator.smtp import SmtpServerProtocol

BACKLOG: Final = 1024  # connections that wait to be accepted


class PortTakenError(Exception):
    """A port cannot be listened on. The message has the port and the reason."""


@contextmanager
def listening(name: str, host: str, port: int) -> Iterator[None]:
    """Raise PortTakenError for an OSError in the block."""
    try:
        yield
    except OSError as error:
        # The messages of asyncio repeat the address.
        reason = "the port is taken" if error.errno == EADDRINUSE else str(error)
        raise PortTakenError(f"{name} on {host}:{port}: {reason}") from error


class Listener:
    """Listens while it is open; its end closes all connections."""

    def __init__(
        self,
        host: str,
        port: int,
        connect: Callable[[], SmtpServerProtocol],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self._host = host
        self._tls = tls
        self._connect = connect
        self._connections: WeakSet[SmtpServerProtocol] = WeakSet()

    async def __aenter__(self) -> Self:
        """Listen. Raises PortTakenError."""
        loop = asyncio.get_running_loop()
        with listening("SMTP", self._host, self.port):
            self._server = await loop.create_server(
                self._begin, self._host, self.port, ssl=self._tls, backlog=BACKLOG
            )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_failure: object) -> None:
        self._server.close()
        endings = [connection.close() for connection in self._connections]
        await asyncio.gather(*endings)

    def _begin(self) -> SmtpServerProtocol:
        connection = self._connect()
        self._connections.add(connection)
        return connection
