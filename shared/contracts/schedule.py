"""Subscriptions and mails for later: questions to the scheduler, and its answers."""

from datetime import timedelta
from enum import StrEnum
from hashlib import sha256

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.content import MAX_VARIABLES_BYTES, Variables
from shared.contracts.fields import Address, Id, Locale, Moment, Retries
from shared.contracts.frequency import Frequency, LocalTime, TimeZone, check_local_time
from shared.contracts.message import Answer, Event, Question

MAX_SCHEDULE = timedelta(days=30)  # ahead, of a mail for later
SUBSCRIPTION_ID_CHARS = 32
MAX_LISTED_SUBSCRIPTIONS = 100  # of a page
MAX_SUBSCRIPTIONS_BYTES = 64 * 1024 * 1024  # of a page, each with its variables


def subscription_id(client: str | None, content_type: str, email: str) -> str:
    """Return the id of a subscription, which is the only one of these."""
    key = "\n".join((client or "", content_type, email.lower()))
    return sha256(key.encode()).hexdigest()[:SUBSCRIPTION_ID_CHARS]


class Missed(StrEnum):
    """The runs that are mailed after a time without a scheduler."""

    SKIP = "skip"  # none of them: the next one is the next to come
    LATEST = "latest"  # the last of them
    ALL = "all"


class SubscriptionStatus(StrEnum):
    """The state of a subscription."""

    PENDING = "pending"  # until the subscriber has confirmed it
    ACTIVE = "active"


class NewsletterSubscription(BaseModel):
    """A content type that is mailed to an address again and again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    subscription_id: Id
    client: Id | None = None
    email: Address = Field(repr=False)
    content_type: Id
    frequency: Frequency
    timezone: TimeZone = "UTC"
    at: LocalTime | None = None
    variables: Variables = Field(default_factory=dict)
    missed: Missed = Missed.LATEST
    retries: Retries | None = None
    locale: Locale | None = None
    status: SubscriptionStatus
    created_at: Moment
    next_at: Moment | None = Field(
        None, description="The period of the next mail; absent while it is pending"
    )


class SubscriptionResult(StrEnum):
    """The result of a question about a subscription."""

    FOUND = "found"
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"  # it was there, with the same fields
    CONFIRMED = "confirmed"  # now or before
    ENDED = "ended"
    UNKNOWN = "unknown"
    NO_CONTENT_TYPE = "no_content_type"


class Subscribe(Question):
    """Asks for a content type to be mailed to an address again and again.

    The same address and content type of a client are one subscription: asked again, its fields are
    replaced. The scheduler answers after the commit.
    """

    keys = ("subscription.add",)
    max_bytes = MAX_VARIABLES_BYTES

    client: Id | None = None
    email: Address = Field(repr=False)
    content_type: Id
    frequency: Frequency
    timezone: TimeZone = "UTC"
    at: LocalTime | None = None
    variables: Variables = Field(default_factory=dict)
    missed: Missed = Missed.LATEST
    retries: Retries | None = Field(
        None, description="Of each mail: further attempts at most; the schedule alone if absent"
    )
    confirm: bool = Field(
        default=False, description="Mail nothing but a link until the subscriber has confirmed"
    )
    locale: Locale | None = Field(None, description="The language of the mail with the link")

    @model_validator(mode="after")
    def _has_a_fitting_time(self) -> "Subscribe":
        check_local_time(self.frequency, self.at)
        return self


class DescribeSubscription(Question):
    """Asks for a subscription."""

    keys = ("subscription.describe",)

    client: Id | None = Field(None, description="Of every client if absent")
    subscription_id: Id


class ConfirmSubscription(Question):
    """Asks for a subscription to be active, as its subscriber has confirmed; harmless again."""

    keys = ("subscription.confirm",)

    subscription_id: Id


class EndSubscription(Question):
    """Asks for a subscription to end; what is already queued is mailed."""

    keys = ("subscription.end",)

    client: Id | None = Field(None, description="Of every client if absent")
    subscription_id: Id


class SubscriptionAnswered(Answer):
    """Answers with the result, and with the subscription if there is one."""

    keys = ("subscription.answered",)
    max_bytes = MAX_VARIABLES_BYTES

    result: SubscriptionResult
    subscription: NewsletterSubscription | None = None


class ListSubscriptions(Question):
    """Asks for a page of subscriptions."""

    keys = ("subscription.list",)

    client: Id | None = Field(None, description="Of every client if absent")
    email: Address | None = Field(None, repr=False)
    content_type: Id | None = None
    after: Id | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_SUBSCRIPTIONS, ge=1, le=MAX_LISTED_SUBSCRIPTIONS)


class SubscriptionsListed(Answer):
    """Answers with a page of subscriptions."""

    keys = ("subscription.listed",)
    max_bytes = MAX_SUBSCRIPTIONS_BYTES

    subscriptions: tuple[NewsletterSubscription, ...] = Field(max_length=MAX_LISTED_SUBSCRIPTIONS)
    next: Id | None = Field(None, description="`after` of the next page; absent at the last")


class SchedulingResult(StrEnum):
    """The result of a question about a mail for later."""

    DONE = "done"
    UNKNOWN = "unknown"  # never scheduled, not yet stored, or already on its way


class RescheduleEmail(Question):
    """Asks for a mail for later to be sent at another time."""

    keys = ("email.reschedule",)

    client: Id | None = None
    email_id: Id
    scheduled_at: Moment


class UnscheduleEmail(Question):
    """Asks for a mail for later not to be sent; each recipient then ends as cancelled."""

    keys = ("email.unschedule",)

    client: Id | None = None
    email_id: Id


class SchedulingAnswered(Answer):
    """Answers after the commit."""

    keys = ("schedule.answered",)

    result: SchedulingResult


class EmailRescheduled(Event):
    """Signals that a mail for later has another time."""

    keys = ("email.rescheduled",)
    must_arrive = True

    email_id: Id
    client: Id | None = None
    scheduled_at: Moment
