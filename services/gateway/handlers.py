"""The handlers of the gateway: questions of other services about clients, and their removals."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from services.gateway.clients.clients import Client
from services.gateway.clients.keys import InvalidApiKey
from services.gateway.clients.store import ClientStore
from shared.contracts import (
    AuthenticateClient,
    AuthenticatedClient,
    ClientAuthenticated,
    Contract,
)
from shared.errors import Unavailable

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClientHandlers:
    """Answers questions about clients; `verify` returns the client of a key at an address."""

    verify: Callable[[str, str], Awaitable[Client]]

    async def on_authenticate_client(self, question: AuthenticateClient) -> Sequence[Contract]:
        """Answer with the client if the key is one of its keys.

        Changes nothing but the day of the key's last use, so it can be asked again. Raises
        StoreUnavailable, and the asker gets no answer.
        """
        try:
            client = await self.verify(question.key, question.remote)
        except InvalidApiKey as error:
            logger.info("a key was refused", remote=question.remote, reason=str(error))
            return [ClientAuthenticated(id=question.id)]
        if client.id != question.client:
            logger.info("a key was refused", remote=question.remote, reason="AnotherClient")
            return [ClientAuthenticated(id=question.id)]
        senders = client.allowed_senders.senders
        found = AuthenticatedClient(
            id=client.id,
            senders=None if senders is None else tuple(senders),
            scopes=tuple(sorted(client.scopes)),
            expires_at=client.expires_at,
        )
        return [ClientAuthenticated(id=question.id, client=found)]


@dataclass(frozen=True, slots=True)
class RemovalAnnouncer:
    """Publishes the removals of clients, each until the broker has confirmed it.

    Two gateways may publish one removal twice, by an event with the same id.
    """

    store: ClientStore
    publish: Callable[[Contract], Awaitable[None]]

    async def announce(self) -> None:
        """Publish what is not announced; without the broker or the database it waits."""
        try:
            for event in await self.store.unannounced():
                await self.publish(event)
                await self.store.announced(event)
        except Unavailable as error:
            logger.warning("the removals of clients wait", reason=str(error))
