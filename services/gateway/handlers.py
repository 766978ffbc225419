"""The handlers of the gateway: questions of other services about clients, and their removals."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from services.gateway.clients.clients import (
    AllowedSenders,
    Client,
    ClientSettings,
    RegisteredClient,
    is_over,
)
from services.gateway.clients.idempotency import RequestStamp
from services.gateway.clients.keys import ApiKey, ApiKeys, InvalidApiKey
from services.gateway.clients.store import ClientStore, KeyAddition, NewKey
from shared.client_address import parse_network
from shared.contracts import (
    AddClientKey,
    AuthenticateClient,
    AuthenticatedClient,
    ChangeClient,
    ClientAnswered,
    ClientAuthenticated,
    ClientKeyRecord,
    ClientRecord,
    ClientResult,
    ClientRights,
    ClientsListed,
    Contract,
    DescribeClient,
    ListClients,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
)
from shared.contracts.clients import Scope
from shared.errors import Unavailable

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class OperatorHandlers:
    """Registers, shows, changes and revokes clients and keys, as the administrator does by HTTP.

    Raises StoreUnavailable, and the asker gets no answer. Only operators may ask: see
    `OperatorQuestion`.
    """

    store: ClientStore
    keys: ApiKeys
    new_stamp: Callable[[], RequestStamp]

    async def on_list(self, question: ListClients) -> Sequence[Contract]:
        """Answer with a page of clients. Changes nothing."""
        found = await self.store.page(question.after or "", question.limit + 1)
        shown = found[: question.limit]
        following = shown[-1].client.id if len(found) > len(shown) else None
        clients = tuple(map(_record, shown))
        return [ClientsListed(id=question.id, clients=clients, next=following)]

    async def on_describe(self, question: DescribeClient) -> Sequence[Contract]:
        """Answer with a client. Changes nothing."""
        return [await self._answer(question.id, ClientResult.FOUND, question.client_id)]

    async def on_register(self, question: RegisterClient) -> Sequence[Contract]:
        """Register a client. Asked again, it exists, and its key is shown no more."""
        new, settings = self._new_key(question.client_id), _settings(question.rights)
        if is_over(settings, new.created_at):
            return [ClientAnswered(id=question.id, result=ClientResult.OVER)]
        if not await self.store.register(new, settings):
            return [ClientAnswered(id=question.id, result=ClientResult.EXISTS)]
        return [await self._answer(question.id, ClientResult.CREATED, question.client_id, new)]

    async def on_change(self, question: ChangeClient) -> Sequence[Contract]:
        """Change a client, if nobody else did meanwhile. Run twice, it is already as wanted.

        An end that is past may stay, while the client is changed otherwise.
        """
        name, rights = question.client_id, question.rights
        is_new_end = rights.expires_at != question.seen.expires_at
        if is_new_end and is_over(_settings(rights), self.new_stamp().at):
            return [await self._answer(question.id, ClientResult.OVER, name)]
        known = _client(name, question.seen), _client(name, rights)
        is_changed = await self.store.change(name, _settings(rights), known)
        result = ClientResult.CHANGED if is_changed else ClientResult.OUTDATED
        return [await self._answer(question.id, result, name)]

    async def on_revoke(self, question: RevokeClient) -> Sequence[Contract]:
        """Revoke a client and its keys. Safe to run twice: the second time there is none."""
        is_gone = await self.store.revoke(question.client_id)
        result = ClientResult.REVOKED if is_gone else ClientResult.UNKNOWN
        return [ClientAnswered(id=question.id, result=result)]

    async def on_add_key(self, question: AddClientKey) -> Sequence[Contract]:
        """Add a key. Run twice, it adds two, of which the asker knows one; a third is refused."""
        new = self._new_key(question.client_id)
        match await self.store.add_key(new):
            case KeyAddition.ADDED:
                done = ClientResult.CREATED
                return [await self._answer(question.id, done, question.client_id, new)]
            case KeyAddition.NO_CLIENT:
                return [ClientAnswered(id=question.id, result=ClientResult.UNKNOWN)]
            case KeyAddition.TOO_MANY:
                return [ClientAnswered(id=question.id, result=ClientResult.TOO_MANY_KEYS)]

    async def on_revoke_key(self, question: RevokeClientKey) -> Sequence[Contract]:
        """Revoke a key. Safe to run twice: the second time there is none."""
        is_gone = await self.store.remove_key(ApiKey(question.client_id, question.key_id))
        result = ClientResult.REVOKED if is_gone else ClientResult.UNKNOWN
        return [await self._answer(question.id, result, question.client_id)]

    async def _answer(
        self, identifier: str, result: ClientResult, client: str, new: NewKey | None = None
    ) -> ClientAnswered:
        found = await self.store.get(client)
        if found is None:
            result = ClientResult.UNKNOWN
        return ClientAnswered(
            id=identifier,
            result=result,
            client=_record(found) if found else None,
            key_id=new.key.id if new else None,
            api_key=self.keys.sign(new.key, new.created_at, new.expires_at) if new else None,
        )

    def _new_key(self, client: str) -> NewKey:
        stamp = self.new_stamp()
        return NewKey(ApiKey(client, stamp.id), stamp.at, stamp.at + self.keys.lifetime)


def _settings(rights: ClientRights) -> ClientSettings:
    return ClientSettings(
        senders=_listed(rights.senders),
        scopes=_listed(rights.scopes),
        networks=_listed(rights.networks),
        expires_at=rights.expires_at,
    )


def _listed(values: Sequence[T] | None) -> list[T] | None:
    return None if values is None else [*values]


def _client(name: str, rights: ClientRights) -> Client:
    """Return the client that has these rights."""
    return Client(
        name,
        AllowedSenders(_listed(rights.senders)),
        frozenset(Scope if rights.scopes is None else rights.scopes),
        None if rights.networks is None else [*map(parse_network, rights.networks)],
        rights.expires_at,
    )


def _record(registered: RegisteredClient) -> ClientRecord:
    client = registered.client
    senders = client.allowed_senders.senders
    return ClientRecord(
        client_id=client.id,
        created_at=registered.created_at,
        senders=None if senders is None else tuple(senders),
        scopes=tuple(each for each in Scope if each in client.scopes),
        networks=None if client.networks is None else tuple(map(str, client.networks)),
        expires_at=client.expires_at,
        client_keys=tuple(
            ClientKeyRecord(
                key_id=key.id,
                created_at=key.created_at,
                expires_at=key.expires_at,
                last_used_on=key.last_used_on,
            )
            for key in registered.keys
        ),
    )
