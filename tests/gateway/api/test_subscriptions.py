"""Subscriptions over HTTP, on a real broker with a fake scheduler and a fake ledger."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.gateway.api.subscriptions import refusal
from shared import topology
from shared.contracts import (
    Category,
    Contract,
    DescribeSubscription,
    DescribeSuppression,
    EndSubscription,
    ListSubscriptions,
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
from shared.contracts.schedule import subscription_id
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

ANN = {
    "email": "ann@example.com",
    "content_type": "news",
    "frequency": "@weekly",
    "at": "mon 08:30",
    "timezone": "Europe/Berlin",
    "variables": {"name": "Ann"},
}
ID = subscription_id("shop", "news", "ann@example.com")
PATH = f"/v1/subscriptions/{ID}"
SHOWN_ANN = {
    **ANN,
    "id": ID,
    "client": "shop",
    "missed": "latest",
    "status": "active",
    "created_at": "2026-11-01T00:00:00Z",
    "next_at": "2026-11-01T00:00:00Z",
}
OPT_OUT = Suppression(
    email="ann@example.com",
    address_key="0" * 64,
    client="shop",
    list_id="news",
    categories=(Category.BULK,),
    origin=SuppressionOrigin.UNSUBSCRIBE,
    at=NOW,
)


class FakeScheduler(FakeService):
    """A scheduler that keeps subscriptions to the content type `news`."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.kept: dict[str, NewsletterSubscription] = {}

    def _answer(self, question: Contract) -> Sequence[Contract]:
        match question:
            case Subscribe():
                return [self._subscribe(question)]
            case ListSubscriptions():
                found = [each for each in self.kept.values() if self._is_of(each, question.client)]
                page = tuple(found[: question.limit])
                following = page[-1].subscription_id if len(found) > len(page) else None
                return [SubscriptionsListed(id=question.id, subscriptions=page, next=following)]
            case DescribeSubscription() | EndSubscription():
                return [self._found(question)]
        raise AssertionError(question)

    def _subscribe(self, asked: Subscribe) -> SubscriptionAnswered:
        if asked.content_type != "news":
            result = SubscriptionResult.NO_CONTENT_TYPE
            return SubscriptionAnswered(id=asked.id, result=result)
        identifier = subscription_id(asked.client, asked.content_type, asked.email)
        old = self.kept.get(identifier)
        status = SubscriptionStatus.PENDING if asked.confirm else SubscriptionStatus.ACTIVE
        self.kept[identifier] = NewsletterSubscription(
            **asked.model_dump(exclude={"id", "confirm"}),
            subscription_id=identifier,
            status=status,
            created_at=NOW,
            next_at=None if asked.confirm else NOW,
        )
        result = SubscriptionResult.CHANGED if old else SubscriptionResult.CREATED
        return SubscriptionAnswered(id=asked.id, result=result, subscription=self.kept[identifier])

    def _found(self, asked: DescribeSubscription | EndSubscription) -> SubscriptionAnswered:
        found = self.kept.get(asked.subscription_id)
        if found is None or not self._is_of(found, asked.client):
            return SubscriptionAnswered(id=asked.id, result=SubscriptionResult.UNKNOWN)
        if isinstance(asked, EndSubscription):
            del self.kept[asked.subscription_id]
            return SubscriptionAnswered(id=asked.id, result=SubscriptionResult.ENDED)
        return SubscriptionAnswered(
            id=asked.id, result=SubscriptionResult.FOUND, subscription=found
        )

    @staticmethod
    def _is_of(found: NewsletterSubscription, client: str | None) -> bool:
        return client in {found.client, None}


@pytest.fixture
async def scheduler(vhost: str, api: ApiClient) -> AsyncIterator[FakeScheduler]:
    """Run a scheduler without subscriptions, once its queue is there."""
    del api
    fake = FakeScheduler()
    contracts = (Subscribe, DescribeSubscription, EndSubscription, ListSubscriptions)
    async with running_service(vhost, topology.SCHEDULER_QUESTIONS, dict.fromkeys(contracts, fake)):
        yield fake


@pytest.fixture
async def entries(vhost: str, api: ApiClient) -> AsyncIterator[list[Suppression]]:
    """Run a ledger whose entries of every address are these."""
    del api
    kept: list[Suppression] = []
    fake = FakeService(lambda it: [SuppressionsListed(id=it.id, suppressions=tuple(kept))])
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeSuppression: fake}):
        yield kept


async def test_a_subscription_is_one_of_its_address_and_content_type(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """It is a 201, and asked for again a 200 with the new fields."""
    del entries
    first = await api.post("/v1/subscriptions", ANN)
    second = await api.post("/v1/subscriptions", {**ANN, "at": "tue 09:00"})

    assert (first.status, first.json) == (201, SHOWN_ANN)
    assert (second.status, second.json) == (200, {**SHOWN_ANN, "at": "tue 09:00"})
    assert first.headers["Location"] == second.headers["Location"] == PATH
    assert [each.client for each in scheduler.got] == ["shop"] * 2


async def test_an_unknown_content_type_is_a_404_at_once(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """The answer says so, not a log later (issue 13)."""
    del entries
    answer = await api.post("/v1/subscriptions", {**ANN, "content_type": "nothing"})

    assert (answer.status, answer.json["code"]) == (404, "no-such-content-type")
    assert scheduler.kept == {}


COMPLAINT = {
    "origin": SuppressionOrigin.COMPLAINT,
    "list_id": None,
    "categories": (Category.TRANSACTIONAL, Category.BULK),
}
BOUNCE = {
    "origin": SuppressionOrigin.BOUNCE,
    "client": None,
    "list_id": None,
    "categories": tuple(Category),
}
MANUAL = {"origin": SuppressionOrigin.MANUAL}
BY_HAND = MANUAL | {"list_id": None, "categories": (Category.TRANSACTIONAL,)}
OUT, STOPPED, TAKEN = "opted-out", "suppressed", None


@pytest.mark.parametrize(
    ("entry", "at_once", "confirmed"),
    [
        ({}, OUT, TAKEN),
        ({"list_id": None}, OUT, OUT),
        ({"client": None}, OUT, OUT),
        ({"list_id": "other"}, TAKEN, TAKEN),
        (COMPLAINT, STOPPED, STOPPED),
        (BOUNCE, STOPPED, STOPPED),
        (MANUAL, STOPPED, STOPPED),
        (MANUAL | {"list_id": "other"}, TAKEN, TAKEN),
        (BY_HAND, TAKEN, STOPPED),  # of the mail with the link
        (BY_HAND | {"categories": (Category.OTP,)}, TAKEN, TAKEN),
    ],
)
def test_which_entries_refuse_a_subscription(
    entry: dict[str, Any], at_once: str | None, confirmed: str | None
) -> None:
    """A reader may confirm away his own opt-out of this list, and nothing more than that."""
    found = [OPT_OUT.model_copy(update=entry)]
    asked = Subscribe.model_validate({**ANN, "id": "q", "client": "shop"})
    problems = [
        refusal(found, asked),
        refusal(found, asked.model_copy(update={"confirm": True})),
    ]

    assert [each and each.type.code for each in problems] == [at_once, confirmed]
    assert all(each is None or each.detail for each in problems)


def test_the_hardest_stop_is_the_answer() -> None:
    """Of an opt-out and a complaint the answer names the one that nobody can confirm away."""
    asked = Subscribe.model_validate({**ANN, "id": "q", "client": "shop"})
    problem = refusal([OPT_OUT, OPT_OUT.model_copy(update=COMPLAINT)], asked)

    assert problem is not None
    assert problem.type.code == STOPPED
    assert refusal([], asked) is None


async def test_who_has_opted_out_is_not_subscribed(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """The opt-out of a list is a 409, and nothing is asked, unless the reader is to confirm."""
    entries.append(OPT_OUT)
    refused = await api.post("/v1/subscriptions", ANN)
    asks = await api.post("/v1/subscriptions", {**ANN, "confirm": True})

    assert (refused.status, refused.json["code"]) == (409, OUT)
    assert "`confirm`" in refused.json["detail"]
    assert asks.status == 201
    assert [each.confirm for each in scheduler.got] == [True]


async def test_an_opt_out_just_before_a_subscription_ends_it(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """One that comes after the list was looked at is a 409 too, and no subscription is left."""
    subscribe = scheduler.answer

    def subscribe_late(question: Contract) -> Sequence[Contract]:
        if isinstance(question, Subscribe):
            entries.append(OPT_OUT)
        return subscribe(question)

    scheduler.answer = subscribe_late
    answer = await api.post("/v1/subscriptions", ANN)

    assert (answer.status, answer.json["code"]) == (409, OUT)
    assert scheduler.kept == {}


async def test_a_pending_subscription_has_no_next_mail(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """Until its reader confirms there is none."""
    del scheduler, entries
    asks = await api.post("/v1/subscriptions", {**ANN, "confirm": True})

    assert asks.json["status"] == "pending"
    assert "next_at" not in asks.json


NO_CRON = "must be @hourly, @daily, @weekly, @monthly, or a cron expression of five fields"


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"email": "ann"}, "#/email", ""),
        ({"email": None}, "#/email", "must be a string"),
        ({"content_type": "a b"}, "#/content_type", "letters, digits"),
        ({"frequency": "@yearly"}, "#/frequency", NO_CRON),
        ({"frequency": "* * * *", "at": None}, "#/frequency", NO_CRON),
        ({"frequency": "* * * * * *", "at": None}, "#/frequency", NO_CRON),
        ({"frequency": "61 * * * *", "at": None}, "#/frequency", "or cron: "),
        ({"frequency": "0 0 30 2 *", "at": None}, "#/frequency", "or cron: Bad day-of-month"),
        ({"timezone": "Mars/Olympus"}, "#/timezone", "time zone of the IANA"),
        ({"timezone": "../UTC"}, "#/timezone", "time zone of the IANA"),
        ({"timezone": "localtime"}, "#/timezone", "time zone of the IANA"),
        ({"timezone": "right/UTC"}, "#/timezone", "time zone of the IANA"),
        ({"timezone": ""}, "#/timezone", "time zone of the IANA"),
        ({"at": "25:00"}, "#/at", "must be a time such as 08:30"),
        ({"at": "31 08:30"}, "#", "must have no such day with @weekly"),
        ({"frequency": "@hourly"}, "#", "must be absent with @hourly"),
        ({"frequency": "0 8 * * *"}, "#", "must be absent with 0 8 * * *"),
        ({"variables": []}, "#/variables", "must be a JSON object"),
        ({"variables": {"a": "x" * 40_000}}, "#/variables", "characters"),
        ({"variables": {"a": "\0"}}, "#/variables", "NUL"),
        ({"missed": "some"}, "#/missed", "must be 'skip', 'latest' or 'all'"),
        ({"retries": -1}, "#/retries", "must be at least 0"),
        ({"retries": "1"}, "#/retries", "whole number"),
        ({"confirm": "yes"}, "#/confirm", ""),
        ({"confirm": 0}, "#/confirm", ""),
        ({"locale": "d"}, "#/locale", "must be a language tag"),
        ({"subject": "a"}, "#/subject", "is not a field of this request"),
    ],
    ids=str,
)
async def test_every_mistake_has_its_place_in_plain_words(
    api: ApiClient, scheduler: FakeScheduler, change: dict[str, Any], pointer: str, words: str
) -> None:
    """A mistake is a 422, and nothing is asked."""
    answer = await api.post("/v1/subscriptions", {**ANN, **change})

    assert (answer.status, answer.json["code"]) == (422, "invalid")
    [mistake] = answer.json["errors"]
    assert mistake["pointer"] == pointer
    assert words in mistake["detail"]
    assert "pydantic" not in mistake["detail"]
    assert scheduler.got == []


async def test_a_subscription_is_read_and_ended(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """It has an id of its own; ended, it is a 404."""
    del entries
    await api.post("/v1/subscriptions", ANN)
    read = await api.call("GET", PATH)
    ended = [await api.call("DELETE", PATH) for _ in range(2)]
    gone = await api.call("GET", PATH)

    assert (read.status, read.json) == (200, SHOWN_ANN)
    assert [each.status for each in ended] == [204, 404]
    assert (gone.status, gone.json["code"]) == (404, "no-such-subscription")
    assert scheduler.kept == {}


async def test_subscriptions_are_listed_by_cursor(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """A page has the subscriptions of the query, and the cursor of the next page."""
    del entries
    for name in ("ann", "bob"):
        await api.post("/v1/subscriptions", {**ANN, "email": f"{name}@example.com"})
    page = await api.call("GET", "/v1/subscriptions?limit=1")
    query = "email=ann@EXAMPLE.com&content_type=news"
    await api.call("GET", f"/v1/subscriptions?{query}&after={page.json['next']}")

    assert (page.json["subscriptions"], page.json["next"]) == ([SHOWN_ANN], ID)
    asked = scheduler.got[-1]
    assert (asked.email, asked.content_type, asked.after) == ("ann@example.com", "news", ID)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("email=ann", "#/email"),
        ("content_type=%C3%A9", "#/content_type"),
        ("after=a/b", "#/after"),
        ("limit=101", "#/limit"),
        ("limit=1&limit=2", "#/limit"),
        ("client=shop", "#/client"),
    ],
)
async def test_a_mistake_in_the_query_is_a_422(api: ApiClient, query: str, pointer: str) -> None:
    """It names its place, although no service runs."""
    answer = await api.call("GET", f"/v1/subscriptions?{query}")

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)


async def test_clients_never_see_each_others(
    api: ApiClient, scheduler: FakeScheduler, entries: list[Suppression]
) -> None:
    """A subscription of another client is a 404; the administrator sees all."""
    del entries
    await api.post("/v1/subscriptions", ANN)
    other = await api.registered("other")
    answers = [await other.call(method, PATH) for method in ("GET", "DELETE")]
    listed = await other.call("GET", "/v1/subscriptions")
    of_all = await api.admin.call("GET", "/v1/subscriptions")
    seen = await api.admin.call("GET", PATH)
    ended = await api.admin.call("DELETE", PATH)

    assert {(each.status, each.json["code"]) for each in answers} == {(404, "no-such-subscription")}
    assert listed.json == {"subscriptions": []}
    assert of_all.json == {"subscriptions": [SHOWN_ANN]}
    assert (seen.json, ended.status) == (SHOWN_ANN, 204)
    assert scheduler.kept == {}


@pytest.mark.parametrize("name", ["%00", "a b", "é", "n" * 101])
async def test_an_id_that_none_can_have_is_a_404(
    api: ApiClient, scheduler: FakeScheduler, name: str
) -> None:
    """The scheduler is not asked about it."""
    answers = [await api.call(each, f"/v1/subscriptions/{name}") for each in ("GET", "DELETE")]

    assert {each.status for each in answers} == {404}
    assert scheduler.got == []


async def test_without_services_nothing_is_known(api: ApiClient) -> None:
    """While no service answers each request is a 503, and a POST may be repeated."""
    added = await api.post("/v1/subscriptions", {**ANN, "confirm": True})
    read = await api.call("GET", PATH)

    assert [(each.status, each.json["code"]) for each in (added, read)] == [
        (503, "unavailable")
    ] * 2
    assert added.json["detail"].endswith("Asking again does no harm.")
