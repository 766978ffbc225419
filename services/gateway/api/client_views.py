"""Clients over HTTP, for the administrator."""

import re
from dataclasses import dataclass

from aiohttp import web

from services.gateway.api.answers import ClientKey
from services.gateway.api.problem import CLIENT_EXISTS, NO_SUCH_CLIENT, Problem
from services.gateway.api.reply import answer
from services.gateway.api.schemas import NewClient
from services.gateway.api.wording import CLIENT_ID
from services.gateway.clients.clients import Clients
from services.gateway.intake import RequestReader
from services.gateway.request import SUBJECT


@dataclass(frozen=True, slots=True)
class ClientViews:
    """Registers and revokes clients."""

    intake: RequestReader
    clients: Clients

    async def post(self, request: web.Request) -> web.Response:
        """Register a client and tell its key."""
        new, _ = await self.intake.read(request, NewClient)
        request[SUBJECT] = new.id
        api_key = await self.clients.register(new.client(), self.intake.now())
        if api_key is None:
            raise Problem(CLIENT_EXISTS)
        made = {"Location": f"/v1/clients/{new.id}"}
        return answer(201, ClientKey(id=new.id, api_key=api_key), made)

    async def delete(self, request: web.Request) -> web.Response:
        """Revoke a client's key."""
        client = request.match_info["id"]
        # No client has another id, and PostgreSQL takes no NUL in a text.
        if not re.fullmatch(CLIENT_ID, client) or not await self.clients.revoke(client):
            raise Problem(NO_SUCH_CLIENT)
        request[SUBJECT] = client
        return web.Response(status=204)
