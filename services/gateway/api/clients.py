"""Clients and their keys: registered, changed and revoked by the administrator."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, cast

from aiohttp import web
from pydantic import AwareDatetime, ConfigDict, Field

from services.gateway.api.body import RFC3339_TIME, RequestBody, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    CLIENT_EXISTS,
    NO_SUCH_CLIENT,
    NO_SUCH_KEY,
    TOO_MANY_KEYS,
    Problem,
    invalid,
)
from services.gateway.api.request import SUBJECT, RequestReader
from services.gateway.api.response import ResponseBody, respond
from services.gateway.clients.clients import (
    MAX_LIVE_KEYS,
    ClientSettings,
    RegisteredClient,
    is_over,
)
from services.gateway.clients.keys import ApiKey, ApiKeys
from services.gateway.clients.store import ClientStore, KeyAddition, NewKey
from shared.contracts.clients import (
    CLIENT_ID_PATTERN,
    MAX_CLIENT_ID_CHARS,
    MAX_NETWORKS,
    MAX_SENDERS,
    NetworkText,
    Scope,
    Sender,
)
from shared.contracts.fields import NOT_EMPTY, Moment

MAX_PAGE_SIZE = 100  # clients
MAX_BODY_BYTES = 192 * 1024  # the longest senders and networks, each character an escape of JSON

_Senders = Annotated[list[Sender], Field(max_length=MAX_SENDERS, fail_fast=True)]
_Scopes = Annotated[list[Scope], Field(max_length=len(Scope), fail_fast=True)]
_Networks = Annotated[
    list[NetworkText],
    Field(max_length=MAX_NETWORKS, fail_fast=True, json_schema_extra={"minItems": 1}),
    NOT_EMPTY,
]
_SETTINGS = frozenset(ClientSettings.__annotations__)
_ClientId = Annotated[str, Field(max_length=MAX_CLIENT_ID_CHARS, pattern=CLIENT_ID_PATTERN)]


class ClientChange(RequestBody):
    """Changes a client: an absent field stays as it is, null sets its default (RFC 7396)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scopes": ["send", "read"], "networks": None}]}
    )
    max_bytes = MAX_BODY_BYTES

    senders: _Senders | None = Field(
        None,
        description="What may stand in `from`: addresses, and domains such as `@shop.example`; "
        "any address if absent",
    )
    scopes: _Scopes | None = Field(None, description="What the client may do; all if absent")
    networks: _Networks | None = Field(
        None,
        description="Where its keys are valid, such as 192.0.2.0/24; everywhere if absent",
    )
    expires_at: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="When its keys end, in the future; never if absent"
    )

    def settings(self) -> ClientSettings:
        """Return the fields that the request has."""
        return cast("ClientSettings", self.model_dump(include={*_SETTINGS} & self.model_fields_set))


class NewClient(ClientChange):
    """Asks for a client to be registered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "shop", "senders": ["@shop.example"], "scopes": ["send", "codes", "read"]}
            ]
        }
    )

    id: _ClientId = Field(
        description="Up to 64 lower-case letters, digits, dots, underscores and hyphens"
    )


class KeyRequest(RequestBody):
    """Asks for a further key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    expires_at: Annotated[AwareDatetime | None, RFC3339_TIME] = Field(
        None, description="When it ends; after `GATEWAY_KEY_DAYS` if absent, and never later"
    )


class ClientPage(StrictModel):
    """The query for a page of the clients."""

    after: _ClientId | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="Clients a page")


class ClientKey(ResponseBody):
    """A new key of a client, which no later response repeats."""

    id: str = Field(description="Of the client")
    key_id: str
    api_key: str
    expires_at: datetime


class KeyDetails(ResponseBody):
    """A key, without what is needed to use it."""

    id: str
    created_at: datetime
    expires_at: datetime | None = Field(None, description="Absent if it is not known")
    last_used_on: date | None = Field(None, description="By UTC; absent if it was never used")


class ClientDetails(ResponseBody):
    """A client: what it may do, from where and until when, and its keys."""

    id: str
    created_at: datetime
    senders: list[str] | None = Field(None, description="Any if absent")
    scopes: list[Scope]
    networks: list[str] | None = Field(None, description="Any if absent")
    expires_at: datetime | None = Field(None, description="Never if absent")
    keys: list[KeyDetails] = Field(description="The oldest first")


class ClientList(ResponseBody):
    """A page of the clients, by id."""

    clients: list[ClientDetails]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


_NEW_KEY = Success(201, "A key, which no later response repeats", ClientKey, headers=("Location",))
_FOUND = Success(200, "The client with its keys", ClientDetails)
POST_CLIENT = Operation(
    "postClient",
    "POST /v1/clients",
    "Register a client",
    (_NEW_KEY,),
    Access.ADMIN,
    body=NewClient,
    problems=(CLIENT_EXISTS,),
)
LIST_CLIENTS = Operation(
    "listClients",
    "GET /v1/clients",
    "List the clients",
    (Success(200, "A page of them, by id", ClientList),),
    Access.ADMIN,
    query=ClientPage,
)
GET_CLIENT = Operation(
    "getClient",
    "GET /v1/clients/{id}",
    "Get a client and when its keys were last used",
    (_FOUND,),
    Access.ADMIN,
    problems=(NO_SUCH_CLIENT,),
)
PATCH_CLIENT = Operation(
    "patchClient",
    "PATCH /v1/clients/{id}",
    "Change what a client may do, from where and until when",
    (_FOUND,),
    Access.ADMIN,
    body=ClientChange,
    problems=(NO_SUCH_CLIENT,),
    description="The change counts at once, at every replica.",
)
DELETE_CLIENT = Operation(
    "deleteClient",
    "DELETE /v1/clients/{id}",
    "Revoke a client and its keys at once",
    (Success(204, "They are revoked", media_type=None),),
    Access.ADMIN,
    problems=(NO_SUCH_CLIENT,),
    description="Its webhooks are deleted too, as soon as their service is there.",
)
POST_KEY = Operation(
    "postKey",
    "POST /v1/clients/{id}/keys",
    "Make a second key of a client",
    (_NEW_KEY,),
    Access.ADMIN,
    body=KeyRequest,
    problems=(NO_SUCH_CLIENT, TOO_MANY_KEYS),
    description=f"A client has at most {MAX_LIVE_KEYS} keys that have not expired. To rotate: make "
    "the second, give it to the program, delete the first.",
)
DELETE_KEY = Operation(
    "deleteKey",
    "DELETE /v1/clients/{id}/keys/{key_id}",
    "Revoke a key of a client at once",
    (Success(204, "It is revoked", media_type=None),),
    Access.ADMIN,
    problems=(NO_SUCH_CLIENT, NO_SUCH_KEY),
)


@dataclass(frozen=True, slots=True)
class ClientViews:
    """Registers, shows, changes and revokes clients and their keys."""

    reader: RequestReader
    store: ClientStore
    keys: ApiKeys
    announce_removals: Callable[[], Awaitable[None]]

    async def post(self, request: web.Request) -> web.Response:
        """Register a client and return its first key."""
        new, _ = await self.reader.read(request, NewClient)
        request[SUBJECT] = new.id
        key = self._new_key(new.id, None)
        if not await self.store.register(key, _lasting(new, key.created_at)):
            raise Problem(CLIENT_EXISTS)
        return self._key_made(key, f"/v1/clients/{new.id}")

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of the clients."""
        page = read_query(ClientPage, request.query)
        found = await self.store.page(page.after or "", page.limit + 1)
        shown = found[: page.limit]
        following = shown[-1].client.id if len(found) > len(shown) else None
        return respond(200, ClientList(clients=[*map(described, shown)], next=following))

    async def get(self, request: web.Request) -> web.Response:
        """Return a client."""
        return respond(200, described(await self._client(_client_id(request))))

    async def patch(self, request: web.Request) -> web.Response:
        """Change a client and return it."""
        client = _client_id(request)
        change, _ = await self.reader.read(request, ClientChange)
        settings = _lasting(change, self.reader.new_stamp().at)
        if settings and not await self.store.change(client, settings):
            raise Problem(NO_SUCH_CLIENT)
        return respond(200, described(await self._client(client)))

    async def delete(self, request: web.Request) -> web.Response:
        """Revoke a client and its keys."""
        if not await self.store.revoke(_client_id(request)):
            raise Problem(NO_SUCH_CLIENT)
        await self.announce_removals()
        return web.Response(status=204)

    async def post_key(self, request: web.Request) -> web.Response:
        """Add a key to a client and return it."""
        client = _client_id(request)
        asked, _ = await self.reader.read(request, KeyRequest)
        key = self._new_key(client, asked.expires_at)
        match await self.store.add_key(key):
            case KeyAddition.ADDED:
                return self._key_made(key, f"/v1/clients/{client}/keys/{key.key.id}")
            case KeyAddition.NO_CLIENT:
                raise Problem(NO_SUCH_CLIENT)
            case KeyAddition.TOO_MANY:
                raise Problem(TOO_MANY_KEYS)

    async def delete_key(self, request: web.Request) -> web.Response:
        """Revoke a key of a client."""
        client = await self._client(_client_id(request))
        key = ApiKey(client.client.id, request.match_info["key_id"])
        known = {each.id for each in client.keys}
        if key.id not in known or not await self.store.remove_key(key):
            raise Problem(NO_SUCH_KEY)
        return web.Response(status=204)

    async def _client(self, client: str) -> RegisteredClient:
        found = await self.store.get(client)
        if found is None:
            raise Problem(NO_SUCH_CLIENT)
        return found

    def _new_key(self, client: str, expires_at: datetime | None) -> NewKey:
        """Return a key that ends when it is asked to. Raises Problem."""
        stamp = self.reader.new_stamp()
        latest = stamp.at + self.keys.lifetime
        if expires_at is not None and not stamp.at < expires_at <= latest:
            latest_text = latest.strftime("%Y-%m-%dT%H:%M:%SZ")
            detail = f"must be in the future and not after {latest_text}"
            raise invalid("#/expires_at", detail)
        return NewKey(ApiKey(client, stamp.id), stamp.at, expires_at or latest)

    def _key_made(self, new: NewKey, location: str) -> web.Response:
        key, expires_at = new.key, new.expires_at
        api_key = self.keys.sign(key, new.created_at, expires_at)
        made = ClientKey(id=key.client, key_id=key.id, api_key=api_key, expires_at=expires_at)
        return respond(201, made, {"Location": location})


def described(registered: RegisteredClient) -> ClientDetails:
    """Return what is shown of a client."""
    client = registered.client
    return ClientDetails(
        id=client.id,
        created_at=registered.created_at,
        senders=client.allowed_senders.senders,
        scopes=[each for each in Scope if each in client.scopes],
        networks=None if client.networks is None else [*map(str, client.networks)],
        expires_at=client.expires_at,
        keys=[KeyDetails.copied_from(each) for each in registered.keys],
    )


def _lasting(change: ClientChange, at: datetime) -> ClientSettings:
    """Return the settings of a change. Raises Problem for an end that is past."""
    settings = change.settings()
    if is_over(settings, at):
        raise invalid("#/expires_at", "must be in the future; to end a client now, delete it")
    return settings


def _client_id(request: web.Request) -> str:
    """Return the client of the path, and name it in the log. Raises Problem."""
    client = request.match_info["id"]
    # No client has another id, and PostgreSQL refuses NUL in a text.
    if not re.fullmatch(CLIENT_ID_PATTERN, client):
        raise Problem(NO_SUCH_CLIENT)
    request[SUBJECT] = client
    return client
