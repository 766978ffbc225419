"""Clients: registered and revoked by the administrator."""

import re
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field

from services.gateway.api.body import RequestBody
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import CLIENT_EXISTS, NO_SUCH_CLIENT, Problem
from services.gateway.api.request import SUBJECT, RequestReader
from services.gateway.api.response import ResponseBody, respond
from services.gateway.clients.clients import (
    CLIENT_ID_PATTERN,
    MAX_CLIENT_ID_CHARS,
    MAX_SENDERS,
    AllowedSenders,
    Sender,
)
from services.gateway.clients.keys import ApiKey, ApiKeys
from services.gateway.clients.store import ClientStore

_Senders = Annotated[list[Sender], Field(max_length=MAX_SENDERS, fail_fast=True)]


class NewClient(RequestBody):
    """Asks for a client to be registered."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "shop", "senders": ["@shop.example"]}]}
    )
    max_bytes = 128 * 1024  # MAX_SENDERS of the longest, each character as an escape of JSON

    id: str = Field(
        max_length=MAX_CLIENT_ID_CHARS,
        pattern=CLIENT_ID_PATTERN,
        description="Up to 64 lower-case letters, digits, dots, underscores and hyphens",
    )
    senders: _Senders | None = Field(
        None,
        description="What may stand in `from`: addresses, and domains such as `@shop.example`; "
        "any address if absent",
    )


class ClientKey(ResponseBody):
    """A new client's key, which no later response repeats."""

    id: str
    api_key: str


POST_CLIENT = Operation(
    "postClient",
    "POST",
    "/v1/clients",
    "Register a client",
    (Success(201, "Its key, which no later response repeats", ClientKey, headers=("Location",)),),
    Access.ADMIN,
    body=NewClient,
    problems=(CLIENT_EXISTS,),
)
DELETE_CLIENT = Operation(
    "deleteClient",
    "DELETE",
    "/v1/clients/{id}",
    "Revoke a client's key at once",
    (Success(204, "It is revoked", media_type=None),),
    Access.ADMIN,
    problems=(NO_SUCH_CLIENT,),
)


@dataclass(frozen=True, slots=True)
class ClientViews:
    """Registers and revokes clients."""

    reader: RequestReader
    store: ClientStore
    keys: ApiKeys

    async def post(self, request: web.Request) -> web.Response:
        """Register a client and return its key.

        A client that loses its key has to be revoked and registered again.
        """
        new, _ = await self.reader.read(request, NewClient)
        request[SUBJECT] = new.id
        stamp = self.reader.new_stamp()
        key = ApiKey(new.id, stamp.id)
        if not await self.store.register(key, AllowedSenders(new.senders), stamp.at):
            raise Problem(CLIENT_EXISTS)
        api_key = self.keys.sign(key, stamp.at)
        location = {"Location": f"/v1/clients/{new.id}"}
        return respond(201, ClientKey(id=new.id, api_key=api_key), location)

    async def delete(self, request: web.Request) -> web.Response:
        """Revoke a client's key."""
        client = request.match_info["id"]
        # No client has another id, and PostgreSQL refuses NUL in a text.
        if not re.fullmatch(CLIENT_ID_PATTERN, client) or not await self.store.revoke(client):
            raise Problem(NO_SUCH_CLIENT)
        request[SUBJECT] = client
        return web.Response(status=204)
