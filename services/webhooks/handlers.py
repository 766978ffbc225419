"""The handlers of the webhooks: events that are kept, and questions about endpoints."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from yarl import URL

from services.webhooks.messages import message_of
from services.webhooks.store.deliveries import DeliveryStore
from services.webhooks.store.endpoints import Changed, EndpointStore
from services.webhooks.store.history import HistoryStore
from services.webhooks.store.upkeep import UpkeepStore
from shared.contracts import (
    ChangeWebhook,
    ClientRemoved,
    Contract,
    CreateWebhook,
    DeleteWebhook,
    DescribeWebhook,
    Event,
    ForgetAddress,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    ReplayWebhook,
    RotateWebhookSecret,
    SendTestEvent,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookReplayed,
    WebhookResult,
    WebhooksListed,
    WebhookTriesListed,
)
from shared.runtime import tracing

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookEventHandlers:
    """Keeps events for the endpoints that want them.

    Safe to run twice: an event has one webhook-id, and is kept once for each endpoint.
    """

    store: DeliveryStore
    upkeep: UpkeepStore
    on_kept: Callable[[], None]

    async def on_batch(self, events: Sequence[Event]) -> None:
        """Keep events in one transaction."""
        traces = [each.get(tracing.PARENT) for each in tracing.origins(len(events))]
        if await self.store.keep([*map(message_of, events, traces)]):
            self.on_kept()

    async def on_event(self, event: Event) -> Sequence[Contract]:
        """Keep an event."""
        await self.on_batch([event])
        return ()

    async def on_forget(self, command: ForgetAddress) -> Sequence[Contract]:
        """Delete the events about a person. Safe to run twice: nothing is left."""
        deleted = await self.upkeep.forget(command.email)
        logger.info("forgot an address", events=deleted)
        return ()


@dataclass(frozen=True, slots=True)
class EndpointHandlers:
    """Keeps endpoints.

    Safe to run twice: an endpoint has the id of the question that created it, and a question that
    is not answered is asked once.
    """

    endpoints: EndpointStore
    allow_http: bool
    on_change: Callable[[str], Awaitable[None]]

    async def on_create(self, asked: CreateWebhook) -> Sequence[Contract]:
        """Add an endpoint; its secret is in this answer alone."""
        if self._is_refused(asked.url):
            return [WebhookAnswered(id=asked.id, result=WebhookResult.NOT_HTTPS)]
        return [_changed(asked.id, await self.endpoints.create(asked))]

    async def on_change_webhook(self, asked: ChangeWebhook) -> Sequence[Contract]:
        """Change an endpoint."""
        if asked.url is not None and self._is_refused(asked.url):
            return [WebhookAnswered(id=asked.id, result=WebhookResult.NOT_HTTPS)]
        changed = await self.endpoints.change(asked)
        await self.on_change(asked.webhook_id)
        return [_changed(asked.id, changed)]

    async def on_rotate(self, asked: RotateWebhookSecret) -> Sequence[Contract]:
        """Add a secret; it is in this answer alone."""
        return [_changed(asked.id, await self.endpoints.rotate(asked))]

    async def on_describe(self, asked: DescribeWebhook) -> Sequence[Contract]:
        """Answer with an endpoint."""
        found = await self.endpoints.find(asked.client, asked.webhook_id)
        result = WebhookResult.UNKNOWN if found is None else WebhookResult.FOUND
        return [WebhookAnswered(id=asked.id, result=result, webhook=found)]

    async def on_delete(self, asked: DeleteWebhook) -> Sequence[Contract]:
        """Delete an endpoint."""
        deleted = await self.endpoints.delete(asked.client, asked.webhook_id)
        await self.on_change(asked.webhook_id)
        result = WebhookResult.DELETED if deleted else WebhookResult.UNKNOWN
        return [WebhookAnswered(id=asked.id, result=result)]

    async def on_client_removed(self, event: ClientRemoved) -> Sequence[Contract]:
        """Delete the endpoints of a client. Safe to run twice: it has none any more."""
        deleted = await self.endpoints.remove_client(event)
        for each in deleted:
            await self.on_change(each)
        logger.info("deleted the endpoints of a client", client=event.client, count=len(deleted))
        return ()

    async def on_list(self, asked: ListWebhooks) -> Sequence[Contract]:
        """Answer with a page of endpoints."""
        found, after = await self.endpoints.page(asked)
        return [WebhooksListed(id=asked.id, webhooks=tuple(found), next=after)]

    def _is_refused(self, url: str) -> bool:
        return URL(url).scheme != "https" and not self.allow_http


@dataclass(frozen=True, slots=True)
class HistoryHandlers:
    """Shows deliveries and tries, and sends events again.

    Safe to run twice: an event that waits to be sent again is sent once.
    """

    history: HistoryStore
    on_due: Callable[[], None]

    async def on_deliveries(self, asked: ListWebhookDeliveries) -> Sequence[Contract]:
        """Answer with a page of the events of an endpoint."""
        page = await self.history.deliveries(asked)
        if page is None:
            return [WebhookDeliveriesListed(id=asked.id, result=WebhookResult.UNKNOWN)]
        result, found = WebhookResult.FOUND, tuple(page.items)
        return [
            WebhookDeliveriesListed(id=asked.id, result=result, deliveries=found, next=page.next)
        ]

    async def on_tries(self, asked: ListWebhookTries) -> Sequence[Contract]:
        """Answer with a page of tries."""
        page = await self.history.tries(asked)
        if page is None:
            return [WebhookTriesListed(id=asked.id, result=WebhookResult.UNKNOWN)]
        result, found = WebhookResult.FOUND, tuple(page.items)
        return [WebhookTriesListed(id=asked.id, result=result, tries=found, next=page.next)]

    async def on_replay(self, asked: ReplayWebhook) -> Sequence[Contract]:
        """Send one event, or those of a span, again."""
        result, count = await self.history.replay(asked)
        self.on_due()
        return [WebhookReplayed(id=asked.id, result=result, count=count)]

    async def on_test(self, asked: SendTestEvent) -> Sequence[Contract]:
        """Send a test."""
        message_id = await self.history.send_test(asked)
        if message_id is None:
            return [WebhookReplayed(id=asked.id, result=WebhookResult.UNKNOWN)]
        self.on_due()
        result = WebhookResult.FOUND
        return [WebhookReplayed(id=asked.id, result=result, count=1, message_id=message_id)]


def _changed(identifier: str, changed: Changed) -> WebhookAnswered:
    return WebhookAnswered(id=identifier, **changed._asdict())
