"""The suppression list: looked up by address, added to, removed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Self
from urllib.parse import urlencode

from aiohttp import web
from pydantic import ValidationError

from services.console.audit import ActionResult
from services.console.client_form import mistakes_by_field
from services.console.context import PageContext, given, read_form, tried
from services.console.rendering import counted
from shared.contracts import (
    AddSuppressions,
    Category,
    ClientAnswered,
    DescribeClient,
    DescribeSuppression,
    ListSuppressions,
    NewSuppression,
    RemoveSuppressions,
    SuppressionOrigin,
    SuppressionsChanged,
    SuppressionsListed,
)

PATH = "/suppressions"
FILTERS = ("email", "client", "origin", "after")
PAGE_SIZE = 50
NO_CATEGORY = "choose at least one class"


@dataclass(frozen=True, slots=True)
class SuppressionForm:
    """The form of a new entry as texts, and the mistakes by field."""

    email: str = ""
    client: str = ""
    list_id: str = ""
    reason: str = ""
    categories: Sequence[str] = (Category.TRANSACTIONAL, Category.BULK)
    mistakes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, fields: Mapping[str, str], categories: Sequence[str]) -> Self:
        """Return the form as it was typed."""
        typed = given(fields, "email", "client", "list_id", "reason")
        return cls(
            typed.get("email", ""),
            typed.get("client", ""),
            typed.get("list_id", ""),
            typed.get("reason", ""),
            categories,
        )

    def entry(self) -> NewSuppression | Mapping[str, str]:
        """Return the entry, or the mistakes by field in plain words."""
        values: dict[str, object] = {
            "email": self.email,
            "client": self.client or None,
            "list_id": self.list_id or None,
            "reason": self.reason,
            "categories": list(self.categories),
        }
        try:
            return NewSuppression.model_validate(values)
        except ValidationError as error:
            mistakes = mistakes_by_field(error, values)
            return mistakes if self.categories else mistakes | {"categories": NO_CATEGORY}


@dataclass(frozen=True, slots=True)
class SuppressionPages:
    """Shows and changes the suppression list of the ledger."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(PATH, self.show),
            web.post(f"{PATH}/add", self.add),
            web.post(f"{PATH}/remove", self.remove),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Return the entries of an address, or the newest of all."""
        email = request.query.get("email", "")
        return await self._listed(request, SuppressionForm(email=email))

    async def _listed(self, request: web.Request, form: SuppressionForm) -> web.Response:
        found = await self.context.listing(request, FILTERS, self._question, SuppressionsListed)
        mistake = found.mistake and found.mistake.replace("email: ", "Address: ")
        return self.context.list_page(
            request,
            "suppressions.html",
            found._replace(mistake=mistake),
            HTTPStatus.UNPROCESSABLE_ENTITY if form.mistakes else None,
            origins=list(SuppressionOrigin),
            categories=list(Category),
            form=form,
        )

    def _question(self, filters: Mapping[str, str]) -> DescribeSuppression | ListSuppressions:
        if "email" in filters:
            return self.context.question(DescribeSuppression, filters)
        return self.context.question(ListSuppressions, {"limit": PAGE_SIZE, **filters})

    async def add(self, request: web.Request) -> web.Response:
        """Add an entry by hand, or return the form with its mistakes."""
        fields, posted = await read_form(request), await request.post()
        chosen = [each for each in posted.getall("categories", []) if isinstance(each, str)]
        form = SuppressionForm.read(fields, chosen)
        entry = form.entry()
        if isinstance(entry, Mapping):
            return await self._listed(request, replace(form, mistakes=entry))
        question = AddSuppressions(id=self.context.new_id(), suppressions=(entry,))
        async with self.context.acting(request, "suppress", entry.email) as result:
            await self.context.ask(question, SuppressionsChanged)
            result.text = _described(entry)
            if entry.client and await self._is_unknown(entry.client):
                result.text += f". No client {entry.client} is registered: is that its id?"
                result.failed = True
        raise self._back(request, entry.email, result)

    async def _is_unknown(self, client: str) -> bool:
        """Return whether the gateway answers that it knows no such client.

        A program with a broker user of its own is a client without being registered, so that an
        entry of an unknown one is kept.
        """
        try:
            question = self.context.question(DescribeClient, {"client_id": client})
        except ValidationError:
            return True
        found = await tried(self.context.ask(question, ClientAnswered))
        return isinstance(found, ClientAnswered) and found.client is None

    async def remove(self, request: web.Request) -> web.Response:
        """Remove one entry of an address."""
        fields = given(await read_form(request), "email", "client", "origin", "list_id")
        email = fields.pop("email", "")
        question = RemoveSuppressions.model_validate(
            {"id": self.context.new_id(), "emails": (email,), **fields}
        )
        async with self.context.acting(request, "lift suppression", email) as result:
            changed = await self.context.ask(question, SuppressionsChanged)
            count = len(changed.suppressions)
            result.text = (
                counted(count, "entry removed", "entries removed")
                if count
                else "there was none any more"
            )
            result.failed = not count
        raise self._back(request, email, result)

    def _back(self, request: web.Request, email: str, result: ActionResult) -> web.HTTPSeeOther:
        return self.context.back(request, f"{PATH}?{urlencode({'email': email})}", result)


def _described(entry: NewSuppression) -> str:
    """Return in words which mail an entry stops."""
    client = f"of the client {entry.client}" if entry.client else "of all clients"
    lists = f", list {entry.list_id}" if entry.list_id else ""
    classes = ", ".join(entry.categories)
    return f"it gets no mail of these classes any more: {classes} ({client}{lists})"
