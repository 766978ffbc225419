"""Subscriptions: who gets which newsletter, and when the next one is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from services.console.context import PageContext, given, read_form
from shared.contracts import (
    EndSubscription,
    ListSubscriptions,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
)

PAGE_SIZE = 50
PATH = "/subscriptions"
FILTERS = ("email", "client", "content_type")


@dataclass(frozen=True, slots=True)
class SubscriptionPages:
    """Shows the subscriptions of the scheduler, and ends one."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get(PATH, self.list), web.post(PATH, self.end)]

    async def list(self, request: web.Request) -> web.Response:
        """Return subscriptions: of all, of a client, an address or a content type."""
        listing = await self.context.listing(
            request, (*FILTERS, "after"), self._question, SubscriptionsListed
        )
        return self.context.list_page(request, "subscriptions.html", listing)

    def _question(self, filters: Mapping[str, str]) -> ListSubscriptions:
        return self.context.question(ListSubscriptions, {"limit": PAGE_SIZE, **filters})

    async def end(self, request: web.Request) -> web.Response:
        """End a subscription; what is already queued is mailed."""
        form = await read_form(request)
        identifier = form.get("subscription_id", "")
        question = EndSubscription(id=self.context.new_id(), subscription_id=identifier)
        async with self.context.acting(request, "end subscription", identifier) as result:
            answer = await self.context.ask(question, SubscriptionAnswered)
            ended = answer.result is SubscriptionResult.ENDED
            result.text = "it has ended" if ended else "there was no such subscription any more"
            result.failed = not ended
        filters = urlencode(given(form, *FILTERS))
        raise self.context.back(request, f"{PATH}?{filters}" if filters else PATH, result)
