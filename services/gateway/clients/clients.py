"""Who may use the gateway: clients with a key each, and the administrator."""

import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from services.gateway.api.body import RequestStamp
from services.gateway.api.problem import UNAUTHORIZED, Problem
from services.gateway.clients.keys import ApiKey, ApiKeys, InvalidApiKey
from services.gateway.clients.senders import AllowedSenders


class Store(Protocol):
    """Where the clients are kept."""

    async def register(self, key: ApiKey, senders: AllowedSenders, at: datetime) -> bool:
        """Add a client with its key; False when the client is there already."""

    async def revoke(self, client: str) -> bool:
        """Remove a client; False when there is none of that id."""

    async def senders(self, key: ApiKey) -> AllowedSenders | None:
        """Give from whom a key's client may send, None when the key is not its client's."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who has shown its key."""

    id: str
    senders: AllowedSenders


@dataclass(frozen=True, slots=True)
class Clients:
    """Registers clients and knows them again. Methods raise what the store raises."""

    store: Store
    keys: ApiKeys
    admin_token: bytes = field(repr=False)

    async def register(self, client: Client, stamp: RequestStamp) -> str | None:
        """Give a new client its key; None when it is registered already.

        The key is told only here. Who loses it revokes the client and registers it again.
        """
        key = ApiKey(client.id, stamp.id)
        if not await self.store.register(key, client.senders, stamp.at):
            return None
        return self.keys.make(key, stamp.at)

    async def revoke(self, client: str) -> bool:
        """End a client's key at once; False when there is no such client."""
        return await self.store.revoke(client)

    async def authenticate(self, authorization: str | None) -> Client:
        """Give the client of an Authorization header. Raises Problem, without telling why."""
        try:
            key = self.keys.read(_bearer(authorization))
        except InvalidApiKey as error:
            raise _unauthorized(str(error)) from None
        senders = await self.store.senders(key)
        if senders is None:
            raise _unauthorized("Revoked")
        return Client(key.client, senders)

    def authenticate_admin(self, authorization: str | None) -> None:
        """Let only the administrator by. Raises Problem, without telling why."""
        if not hmac.compare_digest(_bearer(authorization).encode(), self.admin_token):
            raise _unauthorized("NotTheAdministrator")


def _bearer(authorization: str | None) -> str:
    """Give the token of an Authorization header (RFC 6750 2.1). Raises Problem."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    # Beyond ASCII the header holds surrogate escapes, which nothing could encode.
    if scheme.lower() != "bearer" or not token.isascii():
        raise _unauthorized("NoBearerToken")
    return token


def _unauthorized(reason: str) -> Problem:
    challenge = {"WWW-Authenticate": 'Bearer realm="postrider"'}
    return Problem(UNAUTHORIZED, headers=challenge, reason=reason)
