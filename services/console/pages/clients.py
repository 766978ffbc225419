"""Clients and their keys: registered, changed, rotated, revoked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import quote, urlencode

from aiohttp import web
from pydantic import ValidationError

from services.console.audit import ActionResult
from services.console.client_form import ClientForm, differences, mistakes_by_field, rights_of
from services.console.context import PageContext, given, read_form
from shared.contracts import (
    AddClientKey,
    ChangeClient,
    ClientAnswered,
    ClientRecord,
    ClientResult,
    ClientRights,
    ClientsListed,
    DescribeClient,
    ListClients,
    OperatorQuestion,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
)

PATH = "/clients"
NOTES = {
    ClientResult.UNKNOWN: "there is no such client, or no such key of it, any more",
    ClientResult.TOO_MANY_KEYS: "it has two keys already: revoke one first",
    ClientResult.REVOKED: "revoked, from now on",
    ClientResult.OVER: "nothing is changed, since the end is past: choose one in the future, or "
    "revoke the client",
    ClientResult.OUTDATED: "nothing is changed, since somebody has changed it meanwhile: look at "
    "it, and change it again",
}
EXISTS = "there is a client of this id already: choose another id"
_DONE = {ClientResult.CREATED, ClientResult.REVOKED, ClientResult.CHANGED}


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
            web.post(f"{PATH}/{{id}}/rights", self.change),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of the clients."""
        return await self._listed(request, ClientForm())

    async def _listed(self, request: web.Request, form: ClientForm) -> web.Response:
        filters = given(request.query, "after")
        question = ListClients.model_validate({"id": self.context.new_id(), **filters})
        found = await self.context.ask(question, ClientsListed)
        more = urlencode({"after": found.next}) if found.next else None
        return self.context.page(
            request,
            "clients.html",
            HTTPStatus.UNPROCESSABLE_ENTITY if form.mistakes else HTTPStatus.OK,
            clients=found.clients,
            more=more,
            form=form,
        )

    async def show(self, request: web.Request) -> web.Response:
        """Return a client and its keys."""
        found = await self._client(request)
        return self._shown(request, found)

    async def _client(self, request: web.Request) -> ClientRecord:
        question = DescribeClient(id=self.context.new_id(), client_id=request.match_info["id"])
        found = (await self.context.ask(question, ClientAnswered)).client
        if found is None:
            raise web.HTTPNotFound(text="There is no such client.")
        return found

    def _shown(
        self,
        request: web.Request,
        client: ClientRecord,
        *,
        api_key: str | None = None,
        form: ClientForm | None = None,
        seen: ClientRights | None = None,
    ) -> web.Response:
        """Return the page of a client, with a form that was typed, or else as it is now."""
        rights = seen or rights_of(client)
        return self.context.page(
            request,
            "client.html",
            HTTPStatus.UNPROCESSABLE_ENTITY if form else HTTPStatus.OK,
            client=client,
            api_key=api_key,
            form=form or ClientForm.of(rights),
            seen=rights.model_dump_json(),
        )

    async def register(self, request: web.Request) -> web.Response:
        """Register a client and show its first key."""
        form = await _typed(request, await read_form(request))
        rights = form.rights(ClientRights())
        mistakes = dict(rights) if isinstance(rights, Mapping) else {}
        try:
            question = RegisterClient.model_validate(
                {
                    "id": self.context.new_id(),
                    "client_id": form.client_id,
                    "rights": {} if mistakes else rights,
                }
            )
        except ValidationError as error:
            mistakes |= mistakes_by_field(error)
        if mistakes:
            return await self._listed(request, replace(form, mistakes=mistakes))
        name = question.client_id
        async with self.context.acting(request, "register client", name) as result:
            answer = await self._asked(question, result)
        if answer.result is ClientResult.EXISTS:
            return await self._listed(request, replace(form, mistakes={"client_id": EXISTS}))
        return self._answered(request, answer, result)

    async def change(self, request: web.Request) -> web.Response:
        """Change the rights of a client, if they still are those of the form's page."""
        fields = await read_form(request)
        form = await _typed(request, fields)
        seen = ClientRights.model_validate_json(fields.get("seen", ""))
        rights = form.rights(seen)
        if isinstance(rights, Mapping):
            form = replace(form, mistakes=rights)
            return self._shown(request, await self._client(request), form=form, seen=seen)
        name = request.match_info["id"]
        question = ChangeClient(id=self.context.new_id(), client_id=name, rights=rights, seen=seen)
        async with self.context.acting(request, "change client", name) as result:
            answer = await self._asked(question, result)
            if answer.result is ClientResult.CHANGED:
                result.text = f"changed: {differences(seen, rights)}"
        return self._answered(request, answer, result)

    async def act(self, request: web.Request) -> web.Response:
        """Make a second key and show it, revoke a key, or revoke the client."""
        form, client = await read_form(request), request.match_info["id"]
        fields = {"id": self.context.new_id(), "client_id": client}
        question: OperatorQuestion
        match form.get("act"):
            case "add_key":
                action, subject = "make key", client
                question = AddClientKey.model_validate(fields)
            case "revoke_key":
                key = form.get("key_id", "")
                action, subject = "revoke key", f"{client}: {key}"
                question = RevokeClientKey.model_validate({**fields, "key_id": key})
            case "revoke":
                action, subject = "revoke client", client
                question = RevokeClient.model_validate(fields)
            case _:
                raise web.HTTPBadRequest(text="There is no such action.")
        async with self.context.acting(request, action, subject) as result:
            answer = await self._asked(question, result)
        return self._answered(request, answer, result)

    async def _asked(self, question: OperatorQuestion, result: ActionResult) -> ClientAnswered:
        answer = await self.context.ask(question, ClientAnswered)
        result.text = NOTES.get(answer.result, answer.result)
        result.failed = answer.result not in _DONE
        return answer

    def _answered(
        self, request: web.Request, answer: ClientAnswered, result: ActionResult
    ) -> web.Response:
        """Return the new key on a page of its own, or lead back with the result."""
        if answer.api_key is not None and answer.client is not None:
            return self._shown(request, answer.client, api_key=answer.api_key)
        known = answer.client.client_id if answer.client else None
        raise self.context.back(request, f"{PATH}/{quote(known)}" if known else PATH, result)


async def _typed(request: web.Request, fields: Mapping[str, str]) -> ClientForm:
    """Return the form of these fields; of scopes a request has several."""
    chosen = (await request.post()).getall("scopes", [])
    scopes = [each for each in chosen if isinstance(each, str)]
    return ClientForm.read(fields, scopes)
