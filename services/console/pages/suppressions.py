"""The suppression list: looked up by address, added to, removed from."""

from collections.abc import Mapping, Sequence
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
FILTERS = ("email", "client", "origin", "after")
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
        listing = await self.context.listing(request, FILTERS, self._question, SuppressionsListed)
        return self.context.list_page(
            request,
            "suppressions.html",
            listing,
            origins=list(SuppressionOrigin),
            categories=list(Category),
        )

    def _question(self, filters: Mapping[str, str]) -> DescribeSuppression | ListSuppressions:
        if "email" in filters:
            return self.context.question(DescribeSuppression, filters)
        return self.context.question(ListSuppressions, {"limit": PAGE_SIZE, **filters})

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
