"""Webhooks: the endpoints of clients, the events for each, and every request to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from aiohttp import web

from services.console.context import PageContext, read_form
from services.console.rendering import counted, number
from shared.contracts import (
    ChangeWebhook,
    Contract,
    DeliveryStatus,
    DescribeWebhook,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    ReplayWebhook,
    SendTestEvent,
    Webhook,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookReplayed,
    WebhookResult,
    WebhooksListed,
    WebhookTriesListed,
)

PAGE_SIZE = 50
TRIES = 10  # of a page, each with its bodies
_REFUSALS = {
    WebhookResult.UNKNOWN: "there is no such endpoint any more",
    WebhookResult.NO_EVENT: "there is no such event any more",
}


@dataclass(frozen=True, slots=True)
class WebhookPages:
    """Shows endpoints, events and tries; tests, replays, disables and enables."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/webhooks", self.list),
            web.get("/webhooks/{id}", self.show),
            web.get("/webhooks/{id}/tries", self.tries),
            web.post("/webhooks/{id}", self.act),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return the endpoints of all clients, or of one."""
        question = partial(self.context.question, ListWebhooks)
        listing = await self.context.listing(request, ("client", "after"), question, WebhooksListed)
        return self.context.list_page(request, "webhooks.html", listing)

    async def show(self, request: web.Request) -> web.Response:
        """Return an endpoint and its newest events."""
        webhook = await self._webhook(request)
        fixed = {"webhook_id": webhook.webhook_id, "limit": PAGE_SIZE}
        listing = await self.context.listing(
            request,
            ("status", "after"),
            lambda filters: self.context.question(ListWebhookDeliveries, {**fixed, **filters}),
            WebhookDeliveriesListed,
        )
        statuses = list(DeliveryStatus)
        return self.context.list_page(
            request, "webhook.html", listing, webhook=webhook, statuses=statuses
        )

    async def tries(self, request: web.Request) -> web.Response:
        """Return the newest requests to an endpoint, of all events or of one."""
        webhook = await self._webhook(request)
        fixed = {"webhook_id": webhook.webhook_id, "limit": TRIES}
        listing = await self.context.listing(
            request,
            ("message_id", "after"),
            lambda filters: self.context.question(ListWebhookTries, {**fixed, **filters}),
            WebhookTriesListed,
        )
        return self.context.list_page(request, "webhook_tries.html", listing, webhook=webhook)

    async def act(self, request: web.Request) -> web.Response:
        """Send a test event, send again what was not delivered, disable or enable."""
        form = await read_form(request)
        act, identifier = form.get("act", ""), request.match_info["id"]
        question = self._question(act, identifier, form.get("message_id") or None)
        async with self.context.acting(request, f"{act} webhook", identifier) as result:
            answer = await self.context.broker.ask(question, self.context.answer_seconds)
            result.text, result.failed = _described(act, answer)
            if isinstance(question, ReplayWebhook) and _sends_nothing(answer):
                result.text = await self._nothing_to_send(question)
        raise self.context.back(request, f"/webhooks/{quote(identifier)}", result)

    async def _nothing_to_send(self, asked: ReplayWebhook) -> str:
        """Return why a replay has sent nothing: what waits already is not sent a second time."""
        if asked.message_id is not None:
            return "nothing is sent a second time: a request with this event is under way"
        question = ListWebhookDeliveries(
            id=self.context.new_id(),
            webhook_id=asked.webhook_id,
            status=DeliveryStatus.WAITING,
            limit=PAGE_SIZE,
        )
        found = await self.context.ask(question, WebhookDeliveriesListed)
        if not found.deliveries:
            return "there is nothing to send: all its events were delivered, or were tests"
        count = f"{number(len(found.deliveries))}{' or more' if found.next else ''}"
        times = [each.next_at for each in found.deliveries if each.next_at is not None]
        following = f"; the next try is at {min(times):%H:%M:%S} UTC" if times else ""
        return f"nothing more is sent: events that wait for their turn already: {count}{following}"

    def _question(self, act: str, identifier: str, message: str | None) -> Contract:
        fields = {"id": self.context.new_id(), "webhook_id": identifier}
        match act:
            case "test":
                return SendTestEvent.model_validate(fields)
            case "replay":
                return ReplayWebhook.model_validate({**fields, "message_id": message})
            case "disable" | "enable":
                return ChangeWebhook.model_validate({**fields, "enabled": act == "enable"})
            case _:
                raise web.HTTPBadRequest(text="There is no such action.")

    async def _webhook(self, request: web.Request) -> Webhook:
        question = DescribeWebhook(id=self.context.new_id(), webhook_id=request.match_info["id"])
        found = (await self.context.ask(question, WebhookAnswered)).webhook
        if found is None:
            raise web.HTTPNotFound(text="There is no such endpoint.")
        return found


def _sends_nothing(answer: Contract) -> bool:
    if not isinstance(answer, WebhookReplayed):
        return False
    return answer.result is WebhookResult.FOUND and answer.count == 0


def _described(act: str, answer: Contract) -> tuple[str, bool]:
    """Return the result of an action in words, and whether it failed."""
    match answer:
        case WebhookReplayed(result=WebhookResult.DISABLED):
            return "nothing is sent to a disabled endpoint: enable it first", True
        case WebhookReplayed(result=WebhookResult.FOUND) if act == "test":
            return "a test event is queued: look at its status below", False
        case WebhookReplayed(result=WebhookResult.FOUND):
            queued = counted(answer.count, "event is queued", "events are queued")
            return f"{queued} to be sent: look at the status below", False
        case WebhookAnswered(result=WebhookResult.CHANGED):
            return f"{act}d", False
        case WebhookReplayed() | WebhookAnswered():
            return _REFUSALS.get(answer.result, answer.result.replace("_", " ")), True
        case _:
            return "no answer that is known", True
