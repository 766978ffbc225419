"""Webhooks: the https endpoints of clients, questions about them, and the event of one's end."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from yarl import URL

from shared.contracts.fields import (
    MAX_COUNT,
    Count,
    Id,
    LineText,
    Moment,
    OptionalMoment,
    Seconds,
)
from shared.contracts.ledger import TagLabel
from shared.contracts.mail import Category
from shared.contracts.message import Answer, Event, Question

MAX_URL_CHARS = 2000
# As far as JSON Schema can express it; never narrower.
URL_FORM = "^[Hh][Tt][Tt][Pp][Ss]?://[^ #]+$"
MAX_EVENT_TYPES = 50  # of one endpoint
MAX_EVENT_TYPE_CHARS = 50
MAX_FILTER_TAGS = 10  # of one endpoint
MAX_LISTED_WEBHOOKS = 100  # of a page
MAX_LISTED_DELIVERIES = 100  # of a page
MAX_LISTED_TRIES = 20  # of a page, each with its bodies
MAX_WEBHOOKS_BYTES = 1 << 20  # of a page: an endpoint has 6 kB at most
MAX_TRIES_BYTES = 16 << 20  # of a page: an event has 256 kB, perhaps escaped
MAX_SENT_CHARS = 1 << 20  # of a request's body, an event
MAX_HEADERS = 50  # of a request or an answer, as they are kept
MAX_HEADER_CHARS = 500
MAX_ANSWER_CHARS = 4096  # of what a receiver answers
MAX_ERROR_CHARS = 500
MAX_STATUS = 999  # three digits (RFC 9112 4)
MAX_OLD_SECRET_SECONDS = 30 * 86_400.0
EVENT_TYPE = r"^[a-z]+\.([a-z]+|\*)$"
SECRET = r"^whsec_[A-Za-z0-9+/]{32,86}={0,2}$"  # noqa: S105 -- the form, of 24 to 64 bytes
DELIVERY_CURSOR = r"^[0-9]{1,16}-[A-Za-z0-9_]{1,60}(-[0-9]{1,9})?$"


def _check_url(text: str) -> str:
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with https://")
    if "\\" in text or not text.isascii() or not text.isprintable():
        raise ValueError("must have ASCII characters alone, and no backslash")
    try:
        url = URL(text)
        is_whole = url.host and url.port
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError("must have a host, and a port from 1 to 65535 if any")
    if url.fragment:
        raise ValueError("must have no fragment")
    if url.user is not None or url.password is not None:
        raise ValueError("must have no user and no password")
    return str(url)


WebhookUrl = Annotated[
    str,
    StringConstraints(max_length=MAX_URL_CHARS),
    AfterValidator(_check_url),
    Field(json_schema_extra={"format": "uri", "pattern": URL_FORM}),
]
EventType = Annotated[str, StringConstraints(pattern=EVENT_TYPE, max_length=MAX_EVENT_TYPE_CHARS)]
WebhookSecret = Annotated[str, StringConstraints(pattern=SECRET, max_length=100)]
DeliveryCursor = Annotated[str, StringConstraints(pattern=DELIVERY_CURSOR, max_length=100)]
EventTypes = Annotated[tuple[EventType, ...], Field(max_length=MAX_EVENT_TYPES, fail_fast=True)]
FilterCategories = Annotated[tuple[Category, ...], Field(max_length=len(Category), fail_fast=True)]
FilterTags = Annotated[tuple[TagLabel, ...], Field(max_length=MAX_FILTER_TAGS, fail_fast=True)]


class DisabledFor(StrEnum):
    """The reason why an endpoint gets nothing."""

    OWNER = "owner"  # its client, or the administrator, has disabled it
    GONE = "gone"  # it answered 410
    FAILING = "failing"  # it has failed for three days without a success


class DeliveryStatus(StrEnum):
    """The state of an event at one endpoint."""

    WAITING = "waiting"  # for its first or its next try
    DELIVERED = "delivered"
    FAILED = "failed"  # after three days of tries
    HELD = "held"  # the endpoint is disabled; it can be replayed


class WebhookFilter(BaseModel):
    """The events that an endpoint gets. An empty list is no limit, but there is always a type."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    events: EventTypes = Field(description="Types of events, such as email.bounced or email.*")
    categories: FilterCategories = Field(
        (), description="Events of mails of these classes alone; of all if empty"
    )
    tags: FilterTags = Field(
        (), description="Events of mails with one of these tags, `name` or `name:value`"
    )


class Webhook(WebhookFilter):
    """An endpoint of a client: the URL, the events, and its state."""

    webhook_id: Id
    client: Id | None = Field(None, description="Absent for the administrator's, of all clients")
    url: str = Field(max_length=MAX_URL_CHARS)
    description: LineText = ""
    created_at: Moment
    changed_at: Moment
    disabled_at: Moment | None = Field(None, description="It gets nothing from then on")
    disabled_for: DisabledFor | None = None
    failing_since: Moment | None = Field(
        None, description="The first failure after its last success; absent if that was none"
    )
    failures: Count = Field(0, description="Since its last success")
    old_secret_until: Moment | None = Field(
        None, description="Until then requests are signed with the secret before, too"
    )


class WebhookResult(StrEnum):
    """The result of a question about an endpoint."""

    FOUND = "found"
    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    UNKNOWN = "unknown"
    TOO_MANY = "too_many"  # endpoints of the client
    TOO_MANY_SECRETS = "too_many_secrets"  # it has two already
    NOT_HTTPS = "not_https"
    NO_CLIENT = "no_client"  # it was removed meanwhile
    DISABLED = "disabled"  # and so it gets no replay
    NO_EVENT = "no_event"  # of this id was for the endpoint, or is kept any more


class CreateWebhook(Question, WebhookFilter):
    """Asks for an endpoint to be added. The answer, after the commit, has its secret."""

    keys = ("webhook.create",)

    client: Id | None = None
    registered_at: OptionalMoment = Field(None, description="When its client was registered")
    url: WebhookUrl
    description: LineText = ""


class ChangeWebhook(Question):
    """Asks for an endpoint to be changed; an absent field stays as it is.

    Enabled again, it begins without failures. What it missed can be replayed.
    """

    keys = ("webhook.change",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id
    url: WebhookUrl | None = None
    events: EventTypes | None = None
    categories: FilterCategories | None = None
    tags: FilterTags | None = None
    description: LineText | None = None
    enabled: bool | None = None


class DescribeWebhook(Question):
    """Asks for an endpoint."""

    keys = ("webhook.describe",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id


class DeleteWebhook(Question):
    """Asks for an endpoint to be deleted, with all that is to be sent to it and was sent."""

    keys = ("webhook.delete",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id


class RotateWebhookSecret(Question):
    """Asks for a new secret; the one before signs too, for `old_seconds`, if that is not 0.

    An endpoint has two at most: until then another one is refused, unless it replaces both.
    """

    keys = ("webhook.rotate",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id
    old_seconds: Seconds = Field(86_400.0, le=MAX_OLD_SECRET_SECONDS)


class WebhookAnswered(Answer):
    """Answers with the result, the endpoint if there is one, and a secret if it is new."""

    keys = ("webhook.answered",)

    result: WebhookResult
    webhook: Webhook | None = None
    secret: WebhookSecret | None = Field(None, repr=False)


class ListWebhooks(Question):
    """Asks for a page of endpoints, by id."""

    keys = ("webhook.list",)

    client: Id | None = Field(None, description="Of every client if absent")
    failing: bool = Field(
        default=False, description="Only those that fail, or were disabled since they failed"
    )
    after: Id | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_WEBHOOKS, ge=1, le=MAX_LISTED_WEBHOOKS)


class WebhooksListed(Answer):
    """Answers with a page of endpoints."""

    keys = ("webhook.listed",)
    max_bytes = MAX_WEBHOOKS_BYTES

    webhooks: tuple[Webhook, ...] = Field(max_length=MAX_LISTED_WEBHOOKS)
    next: Id | None = Field(None, description="`after` of the next page; absent at the last one")


class SendTestEvent(Question):
    """Asks for an event `webhook.test` to be sent once, also to a disabled endpoint."""

    keys = ("webhook.test",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id


class ReplayWebhook(Question):
    """Asks for an event, or for those of a time span, to be sent to an endpoint again.

    Without `delivered`, only what has not been delivered: asked again, it sends nothing twice.
    """

    keys = ("webhook.replay",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id
    message_id: Id | None = Field(None, description="The header webhook-id of one event")
    since: Moment | None = Field(None, description="Events from then on")
    until: Moment | None = Field(None, description="Events before then")
    delivered: bool = False


class WebhookReplayed(Answer):
    """Answers with the number of events that are sent, or sent again, from now on."""

    keys = ("webhook.replayed",)

    result: WebhookResult
    count: Count = 0
    message_id: Id | None = Field(None, description="Of a test: the header webhook-id")


class ListWebhookDeliveries(Question):
    """Asks for a page of the events of an endpoint, the newest first."""

    keys = ("webhook.deliveries",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id
    status: DeliveryStatus | None = None
    after: DeliveryCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_DELIVERIES, ge=1, le=MAX_LISTED_DELIVERIES)


class WebhookDelivery(BaseModel):
    """An event at one endpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message_id: Id = Field(description="The header webhook-id")
    type: str = Field(max_length=MAX_EVENT_TYPE_CHARS)
    at: Moment = Field(description="When it happened")
    status: DeliveryStatus
    tries: Count
    next_at: Moment | None = Field(None, description="Of the next try, if it has a time")


class WebhookDeliveriesListed(Answer):
    """Answers with a page of events; with no endpoint there is no page."""

    keys = ("webhook.deliveries_listed",)
    max_bytes = MAX_WEBHOOKS_BYTES

    result: WebhookResult
    deliveries: tuple[WebhookDelivery, ...] = Field((), max_length=MAX_LISTED_DELIVERIES)
    next: DeliveryCursor | None = None


class ListWebhookTries(Question):
    """Asks for a page of the tries of an endpoint, the newest first."""

    keys = ("webhook.tries",)

    client: Id | None = Field(None, description="Of every client if absent")
    webhook_id: Id
    message_id: Id | None = Field(None, description="Of one event; of all if absent")
    after: DeliveryCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_TRIES, ge=1, le=MAX_LISTED_TRIES)


KeptHeaders = Annotated[
    Mapping[
        Annotated[str, StringConstraints(max_length=MAX_HEADER_CHARS)],
        Annotated[str, StringConstraints(max_length=MAX_HEADER_CHARS)],
    ],
    Field(max_length=MAX_HEADERS),
]


class WebhookTry(BaseModel):
    """One request to an endpoint, exactly as it was sent and answered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message_id: Id
    number: int = Field(ge=1, le=MAX_COUNT, description="1 for the first try of the event")
    at: Moment = Field(description="When it began")
    url: str = Field(max_length=MAX_URL_CHARS)
    headers: KeptHeaders = Field(description="As they were sent")
    body: str = Field(max_length=MAX_SENT_CHARS, description="As it was sent")
    status: int | None = Field(
        None, ge=0, le=MAX_STATUS, description="Of the answer; absent if there was none"
    )
    answer_headers: KeptHeaders = Field(default_factory=dict)
    answer: str = Field(
        "", max_length=MAX_ANSWER_CHARS, description="The beginning of the answer's body"
    )
    error: str | None = Field(None, max_length=MAX_ERROR_CHARS, description="In words")
    seconds: Seconds = Field(description="From its start to its end")


class WebhookTriesListed(Answer):
    """Answers with a page of tries; with no endpoint there is no page."""

    keys = ("webhook.tries_listed",)
    max_bytes = MAX_TRIES_BYTES

    result: WebhookResult
    tries: tuple[WebhookTry, ...] = Field((), max_length=MAX_LISTED_TRIES)
    next: DeliveryCursor | None = None


class WebhookDisabled(Event):
    """Signals that an endpoint gets nothing any more, since it failed or answered 410."""

    keys = ("webhook.disabled",)

    webhook_id: Id
    client: Id | None = None
    url: str = Field(max_length=MAX_URL_CHARS)
    reason: DisabledFor
