"""Clients and their keys: made, rotated, revoked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from aiohttp import web

from services.console.context import PageContext, given, read_form
from shared.contracts import (
    AddClientKey,
    ClientAnswered,
    ClientResult,
    ClientsListed,
    DescribeClient,
    ListClients,
    OperatorQuestion,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
)
from shared.contracts.clients import Scope

PATH = "/clients"
NOTES = {
    ClientResult.EXISTS: "there is a client of this id already",
    ClientResult.UNKNOWN: "there is none any more",
    ClientResult.TOO_MANY_KEYS: "it has two keys already: revoke one first",
    ClientResult.INVALID: "an id has lower-case letters, digits, dots, underscores and hyphens; "
    "a sender is an address or a domain such as @shop.example; a network is such as 192.0.2.0/24",
    ClientResult.REVOKED: "revoked, from now on",
}


@dataclass(frozen=True, slots=True)
class ClientPages:
    """Shows and changes the clients of the gateway. A key is shown once, and kept nowhere."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(PATH, self.list),
            web.post(PATH, self.register),
            web.get(f"{PATH}/{{id}}", self.show),
            web.post(f"{PATH}/{{id}}", self.act),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of the clients."""
        filters = given(request.query, "after")
        question = ListClients.model_validate({"id": self.context.new_id(), **filters})
        found = await self.context.ask(question, ClientsListed)
        more = urlencode({"after": found.next}) if found.next else None
        return self.context.page(
            request, "clients.html", clients=found.clients, more=more, scopes=list(Scope)
        )

    async def show(self, request: web.Request) -> web.Response:
        """Return a client and its keys."""
        question = DescribeClient(id=self.context.new_id(), client_id=request.match_info["id"])
        found = (await self.context.ask(question, ClientAnswered)).client
        if found is None:
            raise web.HTTPNotFound(text="There is no such client.")
        return self.context.page(request, "client.html", client=found, api_key=None)

    async def register(self, request: web.Request) -> web.Response:
        """Register a client and show its first key."""
        form, posted = await read_form(request), await request.post()
        scopes = [each for each in posted.getall("scopes", []) if isinstance(each, str)]
        question = RegisterClient.model_validate(
            {
                "id": self.context.new_id(),
                "client_id": form.get("client_id", "").strip(),
                "senders": _words(form, "senders"),
                "networks": _words(form, "networks"),
                "scopes": scopes or None,
            }
        )
        return await self._done(request, "register client", question.client_id, question)

    async def act(self, request: web.Request) -> web.Response:
        """Make a second key and show it, revoke a key, or revoke the client."""
        form, client = await read_form(request), request.match_info["id"]
        fields = {"id": self.context.new_id(), "client_id": client}
        question: OperatorQuestion
        match form.get("act"):
            case "add_key":
                question = AddClientKey.model_validate(fields)
                return await self._done(request, "make key", client, question)
            case "revoke_key":
                key = form.get("key_id", "")
                question = RevokeClientKey.model_validate({**fields, "key_id": key})
                return await self._done(request, "revoke key", f"{client}: {key}", question)
            case "revoke":
                question = RevokeClient.model_validate(fields)
                return await self._done(request, "revoke client", client, question)
            case _:
                raise web.HTTPBadRequest(text="There is no such action.")

    async def _done(
        self, request: web.Request, action: str, subject: str, question: OperatorQuestion
    ) -> web.Response:
        """Ask, and return the new key on a page of its own, or lead back with the result."""
        async with self.context.acting(request, action, subject) as result:
            answer = await self.context.ask(question, ClientAnswered)
            result.text = NOTES.get(answer.result, answer.result)
        if answer.api_key is not None and answer.client is not None:
            return self.context.page(
                request, "client.html", client=answer.client, api_key=answer.api_key
            )
        known = answer.client.client_id if answer.client else None
        path = f"{PATH}/{quote(known)}" if known else PATH
        raise self.context.back(request, path, result.text)


def _words(form: Mapping[str, str], name: str) -> list[str] | None:
    """Return the words of a field, None if it is empty."""
    return form.get(name, "").replace(",", " ").split() or None
