"""An SMTP port and the conversations that come through it."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Self
from weakref import WeakSet

from ops.simulator.port import listening
from ops.simulator.smtp import Conversation

BACKLOG: Final = 1024  # connections that wait to be accepted


class Listener:
    """Listens while it is open; closing it ends its conversations."""

    def __init__(
        self,
        host: str,
        port: int,
        converse: Callable[[], Conversation],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self._host = host
        self._tls = tls
        self._converse = converse
        self._conversations: WeakSet[Conversation] = WeakSet()

    async def __aenter__(self) -> Self:
        """Listen; raise PortTakenError if the port cannot be had."""
        loop = asyncio.get_running_loop()
        with listening("SMTP", self._host, self.port):
            self._server = await loop.create_server(
                self._begin, self._host, self.port, ssl=self._tls, backlog=BACKLOG
            )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_failure: object) -> None:
        self._server.close()
        endings = [conversation.close() for conversation in self._conversations]
        await asyncio.gather(*endings)

    def _begin(self) -> Conversation:
        conversation = self._converse()
        self._conversations.add(conversation)
        return conversation
