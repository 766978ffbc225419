"""The suppression list: looked up by address, added to, removed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web
from pydantic import TypeAdapter

from services.console.audit import ActionResult
from services.console.context import PageContext, given, read_form
from shared.contracts import (
    AddSuppressions,
    Category,
    DescribeSuppression,
    ListSuppressions,
    NewSuppression,
    RemoveSuppressions,
    SuppressionOrigin,
    SuppressionsChanged,
    SuppressionsListed,
)

PATH = "/suppressions"
PAGE_SIZE = 50
_CHECKED = TypeAdapter(NewSuppression)


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
        filters = given(request.query, "email", "client", "origin", "after")
        found = await self.context.ask(self._question(filters), SuppressionsListed)
        more = urlencode({**filters, "after": found.next}) if found.next else None
        return self.context.page(
            request,
            "suppressions.html",
            filters=filters,
            origins=list(SuppressionOrigin),
            categories=list(Category),
            entries=found.suppressions,
            more=more,
        )

    def _question(self, filters: dict[str, str]) -> DescribeSuppression | ListSuppressions:
        if "email" in filters:
            fields = {name: filters[name] for name in ("email", "client") if name in filters}
            return DescribeSuppression.model_validate({"id": self.context.new_id(), **fields})
        return ListSuppressions.model_validate(
            {"id": self.context.new_id(), "limit": PAGE_SIZE, **filters}
        )

    async def add(self, request: web.Request) -> web.Response:
        """Add an entry by hand."""
        form = await read_form(request)
        fields = given(form, "email", "client", "list_id", "reason")
        posted = await request.post()
        chosen = {"categories": posted.getall("categories", [])}
        entry = _CHECKED.validate_python({**fields, **chosen})
        question = AddSuppressions(id=self.context.new_id(), suppressions=(entry,))
        async with self.context.acting(request, "suppress", entry.email) as result:
            await self.context.ask(question, SuppressionsChanged)
            result.text = (
                f"it gets no mail of these classes any more: {', '.join(entry.categories)}"
            )
        raise self._back(request, entry.email, result)

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
            result.text = f"{count} entries removed" if count else "there was none any more"
            result.failed = not count
        raise self._back(request, email, result)

    def _back(self, request: web.Request, email: str, result: ActionResult) -> web.HTTPSeeOther:
        return self.context.back(request, f"{PATH}?{urlencode({'email': email})}", result)
