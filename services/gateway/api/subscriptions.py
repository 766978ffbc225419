"""Subscriptions: content types that are mailed to an address again and again."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Self

from aiohttp import web
from pydantic import ConfigDict, Field, model_validator

from services.gateway.api.body import RequestBody, StrictModel, read_query
from services.gateway.api.content_types import check_variables
from services.gateway.api.messages import StrictRetries
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    NO_SUCH_CONTENT_TYPE,
    NO_SUCH_SUBSCRIPTION,
    OPTED_OUT,
    SUPPRESSED,
    Problem,
)
from services.gateway.api.request import CLIENT, REPEATABLE, client_of
from services.gateway.api.response import AskingViews, ResponseBody, respond
from shared.contracts import (
    Category,
    DescribeSubscription,
    DescribeSuppression,
    EndSubscription,
    ListSubscriptions,
    Missed,
    NewsletterSubscription,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
    SubscriptionStatus,
    Suppression,
    SuppressionOrigin,
    SuppressionsListed,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import ID, Address, Id, Locale
from shared.contracts.frequency import Frequency, LocalTime, TimeZone, check_local_time
from shared.contracts.schedule import MAX_LISTED_SUBSCRIPTIONS

_ID = re.compile(ID)


class NewSubscription(RequestBody):
    """Asks for a content type to be mailed to an address again and again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "email": "ada@mail.example",
                    "content_type": "news",
                    "frequency": "@weekly",
                    "timezone": "Europe/Berlin",
                    "at": "mon 08:30",
                    "variables": {"name": "Ada"},
                }
            ]
        }
    )
    max_bytes = None

    email: Address = Field(repr=False)
    content_type: Id = Field(description="The name of a content type, which must exist")
    frequency: Frequency = Field(
        description="@hourly, @daily, @weekly, @monthly, or a cron expression of five fields"
    )
    timezone: TimeZone = "UTC"
    at: LocalTime | None = Field(
        None,
        description="Of @daily, @weekly, @monthly: `08:30`, `mon 08:30`, `31 08:30` (the last day "
        "of a shorter month); midnight, Sunday or the first if absent",
    )
    variables: Mapping[str, Any] = Field(
        default_factory=dict, repr=False, description="What the templates show"
    )
    missed: Missed = Field(
        Missed.LATEST, description="The runs that are mailed after a time without a scheduler"
    )
    retries: StrictRetries | None = Field(
        None, description="Of each mail: further attempts at most; the schedule alone if absent"
    )
    confirm: bool = Field(
        default=False,
        strict=True,
        description="Mail nothing but a link until the subscriber has confirmed by it",
    )
    locale: Locale | None = Field(
        None, description="The language of the pages behind the links; the reader's own if absent"
    )

    @model_validator(mode="after")
    def _has_a_fitting_time(self) -> Self:
        check_local_time(self.frequency, self.at)
        return self


class SubscriptionQuery(StrictModel):
    """The query for a page of subscriptions."""

    email: Address | None = Field(None, repr=False)
    content_type: Id | None = None
    after: Id | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_SUBSCRIPTIONS, ge=1, le=MAX_LISTED_SUBSCRIPTIONS)


class SubscriptionBody(ResponseBody):
    """A subscription."""

    id: str
    client: str | None = None
    email: str
    content_type: str
    frequency: str
    timezone: str
    at: str | None = None
    variables: dict[str, Any]
    missed: Missed
    retries: int | None = None
    locale: str | None = None
    status: SubscriptionStatus = Field(
        description="pending: the subscriber has not confirmed it yet"
    )
    created_at: datetime
    next_at: datetime | None = Field(
        None, description="The period of the next mail; absent while it is pending"
    )

    @classmethod
    def of(cls, found: NewsletterSubscription) -> Self:
        """Return the body of a subscription."""
        fields = {**found.__dict__, "id": found.subscription_id}
        return cls.model_validate({name: fields[name] for name in cls.model_fields})


class SubscriptionPage(ResponseBody):
    """A page of subscriptions."""

    subscriptions: list[SubscriptionBody]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


POST_SUBSCRIPTION = Operation(
    "postSubscription",
    "POST /v1/subscriptions",
    "Mail a content type to an address again and again",
    (
        Success(201, "It is kept", SubscriptionBody, headers=("Location",)),
        Success(
            200,
            "There was one of this address and content type; it has these fields now",
            SubscriptionBody,
            headers=("Location",),
        ),
    ),
    scope=Scope.SEND,
    body=NewSubscription,
    problems=(NO_SUCH_CONTENT_TYPE, OPTED_OUT, SUPPRESSED),
    description="A reader who has opted out of this list is a 409 `opted-out`, unless asked to "
    "`confirm`; one who has opted out of all lists is that in any case. A complaint, a mailbox "
    "that does not exist, and an entry made by hand are a 409 `suppressed`. This request removes "
    "no entry of the suppression list; the reader's confirmation removes the opt-out of this list.",
)
LIST_SUBSCRIPTIONS = Operation(
    "listSubscriptions",
    "GET /v1/subscriptions",
    "List subscriptions",
    (Success(200, "A page of them", SubscriptionPage),),
    Access.ANY,
    Scope.SEND,
    query=SubscriptionQuery,
)
GET_SUBSCRIPTION = Operation(
    "getSubscription",
    "GET /v1/subscriptions/{id}",
    "Read a subscription",
    (Success(200, "The subscription", SubscriptionBody),),
    Access.ANY,
    Scope.SEND,
    problems=(NO_SUCH_SUBSCRIPTION,),
)
DELETE_SUBSCRIPTION = Operation(
    "deleteSubscription",
    "DELETE /v1/subscriptions/{id}",
    "End a subscription",
    (Success(204, "There is none", media_type=None),),
    Access.ANY,
    Scope.SEND,
    problems=(NO_SUCH_SUBSCRIPTION,),
    description="A mail that is queued already is sent. The address may be subscribed again: an "
    "opt-out of its reader is kept by PUT /v1/suppressions/{email}.",
)


class SubscriptionViews(AskingViews):
    """Asks the scheduler about subscriptions."""

    async def post(self, request: web.Request) -> web.Response:
        """Add a subscription, or change the one of the same address and content type."""
        request[REPEATABLE] = True
        new, _ = await self.reader.read(request, NewSubscription)
        check_variables(new.variables)
        client = request[CLIENT].id
        question = Subscribe.model_construct(id=self.new_id(), client=client, **new.__dict__)
        answer = await subscribe(self, question)
        if answer.subscription is None:
            raise Problem(NO_SUCH_CONTENT_TYPE)
        body = SubscriptionBody.of(answer.subscription)
        status = 201 if answer.result is SubscriptionResult.CREATED else 200
        return respond(status, body, {"Location": f"/v1/subscriptions/{body.id}"})

    async def get(self, request: web.Request) -> web.Response:
        """Return a subscription."""
        question = DescribeSubscription(
            id=self.new_id(), client=client_of(request), subscription_id=_read_id(request)
        )
        answer = await self.ask(question, SubscriptionAnswered)
        if answer.subscription is None:
            raise Problem(NO_SUCH_SUBSCRIPTION)
        return respond(200, SubscriptionBody.of(answer.subscription))

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of subscriptions."""
        query = read_query(SubscriptionQuery, request.query)
        question = ListSubscriptions.model_construct(
            id=self.new_id(), client=client_of(request), **query.__dict__
        )
        page = await self.ask(question, SubscriptionsListed)
        found = [*map(SubscriptionBody.of, page.subscriptions)]
        return respond(200, SubscriptionPage(subscriptions=found, next=page.next))

    async def delete(self, request: web.Request) -> web.Response:
        """End a subscription."""
        question = EndSubscription(
            id=self.new_id(), client=client_of(request), subscription_id=_read_id(request)
        )
        answer = await self.ask(question, SubscriptionAnswered)
        if answer.result is SubscriptionResult.UNKNOWN:
            raise Problem(NO_SUCH_SUBSCRIPTION)
        return web.Response(status=204)


async def subscribe(views: AskingViews, asked: Subscribe) -> SubscriptionAnswered:
    """Add a subscription. Raises Problem if its mail would be stopped.

    The scheduler ends what it has when an entry comes. One that came before the subscription, and
    after the first look, is found by the second look.
    """
    await _check_entries(views, asked)
    answer = await views.ask(asked, SubscriptionAnswered)
    added = answer.subscription
    if added is not None and answer.result is SubscriptionResult.CREATED:
        try:
            await _check_entries(views, asked)
        except Problem:
            end = EndSubscription(id=views.new_id(), subscription_id=added.subscription_id)
            await views.ask(end, SubscriptionAnswered)
            raise
    return answer


async def _check_entries(views: AskingViews, asked: Subscribe) -> None:
    """Raise Problem if an entry of the suppression list would stop the mail of a subscription."""
    question = DescribeSuppression(id=views.new_id(), email=asked.email, client=asked.client)
    found = await views.ask(question, SuppressionsListed)
    if problem := refusal(found.suppressions, asked):
        raise problem


def refusal(entries: Iterable[Suppression], asked: Subscribe) -> Problem | None:
    """Return the problem of a subscription by the entries of its address, None without one.

    The reader's confirmation lifts an opt-out of the list itself, by this client, and nothing else.
    """
    needed = {Category.BULK, Category.TRANSACTIONAL} if asked.confirm else {Category.BULK}
    stops = [
        each
        for each in entries
        if each.list_id in {None, asked.content_type} and needed.intersection(each.categories)
    ]
    opt_outs = [each for each in stops if each.origin is SuppressionOrigin.UNSUBSCRIBE]
    for each in stops:
        if each not in opt_outs:
            return Problem(SUPPRESSED, _REASONS[each.origin])
    if any(each.list_id is None or each.client is None for each in opt_outs):
        return Problem(OPTED_OUT, _OF_ALL_LISTS)
    return Problem(OPTED_OUT, _OF_THE_LIST) if opt_outs and not asked.confirm else None


_REASONS = {
    SuppressionOrigin.COMPLAINT: "The reader has reported a mail of this client as spam.",
    SuppressionOrigin.BOUNCE: "The mailbox does not exist, as its server has said.",
    SuppressionOrigin.MANUAL: "The address was suppressed by hand.",
}
_OF_THE_LIST = "From this list. Ask the reader by `confirm`."
_OF_ALL_LISTS = (
    "From all lists, which a confirmation of one does not change. If the reader asks you to, "
    "remove that by DELETE /v1/suppressions/{email}."
)


def _read_id(request: web.Request) -> str:
    """Return the id in a path. Raises Problem for one that no subscription has."""
    identifier = request.match_info["id"]
    if not _ID.fullmatch(identifier):
        raise Problem(NO_SUCH_SUBSCRIPTION)
    return identifier
