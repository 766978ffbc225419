"""The tries of an endpoint exactly as they were sent, and events that are sent again."""

from datetime import datetime
from typing import Annotated, Self

from aiohttp import web
from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from services.gateway.api.body import RFC3339_TIME, RequestBody, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    NO_SUCH_EVENT,
    NO_SUCH_WEBHOOK,
    WEBHOOK_DISABLED,
    Problem,
)
from services.gateway.api.response import ResponseBody, respond
from services.gateway.api.webhooks import WebhookViews
from shared.contracts import (
    DeliveryStatus,
    ListWebhookDeliveries,
    ListWebhookTries,
    ReplayWebhook,
    SendTestEvent,
    WebhookDeliveriesListed,
    WebhookReplayed,
    WebhookResult,
    WebhookTriesListed,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import Id, Moment
from shared.contracts.webhooks import MAX_LISTED_DELIVERIES, MAX_LISTED_TRIES, DeliveryCursor


class TestEventRequest(RequestBody):
    """Asks for a test event; it has no fields."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class WebhookReplay(RequestBody):
    """Asks for events to be sent again: one of them, or those of a time span."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"since": "2026-11-01T12:00:00Z", "until": "2026-11-01T13:00:00Z"}]
        }
    )

    message_id: Id | None = Field(None, description="The header webhook-id of one event")
    since: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="Events that happened then or later"
    )
    until: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="Events that happened before then"
    )
    delivered: bool = Field(
        default=False, strict=True, description="Of a span, also those that were delivered"
    )

    @field_validator("until")
    @classmethod
    def _is_after_since(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if until is not None and since is not None and until <= since:
            raise ValueError("must be later than since")
        return until

    @model_validator(mode="after")
    def _is_one_or_a_span(self) -> Self:
        if self.message_id is not None and (self.since or self.until):
            raise ValueError("must have either message_id or a time span")
        return self


class DeliveryQuery(StrictModel):
    """The query for a page of the events of an endpoint."""

    status: DeliveryStatus | None = None
    after: DeliveryCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_DELIVERIES, ge=1, le=MAX_LISTED_DELIVERIES)


class TryQuery(StrictModel):
    """The query for a page of the tries of an endpoint."""

    message_id: Id | None = Field(None, description="Of one event; of all if absent")
    after: DeliveryCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_TRIES, ge=1, le=MAX_LISTED_TRIES)


class DeliveryBody(ResponseBody):
    """An event at an endpoint."""

    message_id: str = Field(description="The header webhook-id")
    type: str
    at: datetime = Field(description="When it happened")
    status: DeliveryStatus = Field(
        description="held: the endpoint is or was disabled; a replay sends it"
    )
    tries: int
    next_at: datetime | None = Field(None, description="Of the next try, if it has a time")


class DeliveryPage(ResponseBody):
    """A page of events, the newest first."""

    deliveries: list[DeliveryBody]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class TryBody(ResponseBody):
    """A request to an endpoint, exactly as it was sent and answered."""

    message_id: str
    number: int = Field(description="1 for the first try of the event")
    at: datetime
    url: str
    headers: dict[str, str]
    body: str
    status: int | None = Field(None, description="Of the answer; absent without one")
    answer_headers: dict[str, str]
    answer: str = Field(description="The first 4096 bytes of the answer's body")
    error: str | None = Field(None, description="In words")
    seconds: float


class TryPage(ResponseBody):
    """A page of tries, the newest first."""

    tries: list[TryBody]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class ReplayBody(ResponseBody):
    """The events that are sent from now on."""

    count: int
    message_id: str | None = Field(None, description="Of a test: its header webhook-id")


TEST_WEBHOOK = Operation(
    "testWebhook",
    "POST /v1/webhooks/{id}/test",
    "Send a test event to an endpoint, once",
    (Success(202, "It is sent; the list of tries shows how it went", ReplayBody),),
    Access.ANY,
    Scope.WEBHOOKS,
    body=TestEventRequest,
    problems=(NO_SUCH_WEBHOOK,),
    description="Also to one that is disabled. A failure does not count.",
)
REPLAY_WEBHOOK = Operation(
    "replayWebhook",
    "POST /v1/webhooks/{id}/replay",
    "Send an event, or those of a time span, again",
    (Success(202, "They are sent, each under the webhook-id that it had", ReplayBody),),
    Access.ANY,
    Scope.WEBHOOKS,
    body=WebhookReplay,
    problems=(NO_SUCH_WEBHOOK, NO_SUCH_EVENT, WEBHOOK_DISABLED),
    description="Of a span, what has not been delivered, unless `delivered` is set.",
)
LIST_DELIVERIES = Operation(
    "listWebhookDeliveries",
    "GET /v1/webhooks/{id}/deliveries",
    "List the events of an endpoint",
    (Success(200, "A page of them, the newest first", DeliveryPage),),
    Access.ANY,
    Scope.WEBHOOKS,
    query=DeliveryQuery,
    problems=(NO_SUCH_WEBHOOK,),
)
LIST_TRIES = Operation(
    "listWebhookTries",
    "GET /v1/webhooks/{id}/tries",
    "List the tries of an endpoint, as they were sent and answered",
    (Success(200, "A page of them, the newest first", TryPage),),
    Access.ANY,
    Scope.WEBHOOKS,
    query=TryQuery,
    problems=(NO_SUCH_WEBHOOK,),
)


class WebhookTryViews(WebhookViews):
    """Asks the webhooks service about tries, and for further ones."""

    async def test(self, request: web.Request) -> web.Response:
        """Send a test event."""
        await self.reader.read(request, TestEventRequest)
        answer = await self.ask(SendTestEvent(**self.key(request)), WebhookReplayed)
        return _replayed(answer)

    async def replay(self, request: web.Request) -> web.Response:
        """Send events again."""
        asked, _ = await self.reader.read(request, WebhookReplay)
        question = ReplayWebhook(**self.key(request), **asked.model_dump())
        return _replayed(await self.ask(question, WebhookReplayed))

    async def list_deliveries(self, request: web.Request) -> web.Response:
        """Return a page of events."""
        query = read_query(DeliveryQuery, request.query)
        question = ListWebhookDeliveries(**self.key(request), **query.model_dump())
        page = await self.ask(question, WebhookDeliveriesListed)
        _check(page.result)
        found = [DeliveryBody.model_validate(each.__dict__) for each in page.deliveries]
        return respond(200, DeliveryPage(deliveries=found, next=page.next))

    async def list_tries(self, request: web.Request) -> web.Response:
        """Return a page of tries."""
        query = read_query(TryQuery, request.query)
        question = ListWebhookTries(**self.key(request), **query.model_dump())
        page = await self.ask(question, WebhookTriesListed)
        _check(page.result)
        found = [TryBody.model_validate(each.__dict__) for each in page.tries]
        return respond(200, TryPage(tries=found, next=page.next))


def _check(result: WebhookResult) -> None:
    if result is WebhookResult.UNKNOWN:
        raise Problem(NO_SUCH_WEBHOOK)
    if result is WebhookResult.DISABLED:
        raise Problem(WEBHOOK_DISABLED)
    if result is WebhookResult.NO_EVENT:
        raise Problem(NO_SUCH_EVENT)


def _replayed(answer: WebhookReplayed) -> web.Response:
    _check(answer.result)
    return respond(202, ReplayBody(count=answer.count, message_id=answer.message_id))
