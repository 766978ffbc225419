"""Content types and subscriptions in both databases, with two schedulers at the same rows."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.scheduler.service import MIGRATIONS
from services.scheduler.store import tables
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import moment
from services.scheduler.store.runs import UNKNOWN_MAILBOX, RunStore
from services.scheduler.store.subscriptions import Answered, SubscriptionStore
from shared.contracts import (
    ContentResult,
    ListContentTypes,
    ListSubscriptions,
    NewsletterSubscription,
    SaveContentType,
    Subscribe,
    SubscriptionResult,
    SubscriptionStatus,
)
from shared.contracts.content import NewsletterId
from shared.contracts.schedule import subscription_id
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import Opener

NEWS = ("shop", "news")
HOUR_SECONDS = 3600.0
SAVE = SaveContentType(
    id="q", client="shop", name="news", replaces=False, subject="s", html="<p>x</p>"
)
ANN = Subscribe(
    id="q1", client="shop", email="ann@example.org", content_type="news", frequency="@daily"
)


def asked(**more: object) -> Subscribe:
    """Return a question for the subscription of one address."""
    return Subscribe.model_validate({**ANN.model_dump(), **more})


@pytest.fixture
async def replicas(open_database: Opener) -> Sequence[Database]:
    """Open the tables of two schedulers."""
    return [await open_database("scheduler", MIGRATIONS) for _ in range(2)]


@pytest.fixture
def contents(replicas: Sequence[Database], clock: Clock) -> Sequence[ContentStore]:
    """Return the content types of two schedulers."""
    return [ContentStore(each, clock) for each in replicas]


@pytest.fixture
async def stores(
    replicas: Sequence[Database], contents: Sequence[ContentStore], clock: Clock
) -> Sequence[SubscriptionStore]:
    """Return the subscriptions of two schedulers; there is a content type."""
    await contents[0].save(SAVE)
    return [SubscriptionStore(each, timedelta(0), clock) for each in replicas]


async def add(store: SubscriptionStore, **more: object) -> NewsletterSubscription:
    """Add a subscription."""
    _, found, _ = await store.subscribe(asked(**more))
    assert found is not None
    return found


async def listed(store: SubscriptionStore, **more: object) -> list[str]:
    """Return the ids of a page."""
    found, _ = await store.page(ListSubscriptions.model_validate({"id": "q", **more}))
    return [each.subscription_id for each in found]


async def test_a_content_type_is_created_once(contents: Sequence[ContentStore]) -> None:
    """Of two that create it at once, one does."""
    results = await asyncio.gather(*(each.save(SAVE) for each in [*contents, *contents]))

    kinds = [result for result, _ in results]
    assert kinds.count(ContentResult.CREATED) == 1
    assert kinds.count(ContentResult.EXISTS) == len(results) - 1


async def test_a_change_is_a_version(contents: Sequence[ContentStore]) -> None:
    """The same templates again are none; one that is not there is not replaced."""
    change = SAVE.model_copy(update={"replaces": True, "title": "News"})
    missing, _ = await contents[0].save(change)
    await contents[0].save(SAVE)
    versions = []
    for save in (change, change, change.model_copy(update={"html": "<p>y</p>"})):
        result, found = await contents[0].save(save)
        assert found is not None
        versions.append((result, found.version))

    assert missing is ContentResult.UNKNOWN
    assert versions == [(ContentResult.CHANGED, number) for number in (2, 2, 3)]


async def test_content_types_are_paged(contents: Sequence[ContentStore]) -> None:
    """Each page goes on where the last one ended, for one client or for all."""
    for client in ("shop", "other"):
        for name in ("a", "b", "c"):
            await contents[0].save(SAVE.model_copy(update={"client": client, "name": name}))
    found, after = list[str](), None
    while not found or after is not None:
        page, after = await contents[0].page(ListContentTypes(id="q", after=after, limit=2))
        found += [f"{each.client}/{each.name}" for each in page]
    own, _ = await contents[0].page(ListContentTypes(id="q", client="shop"))
    await contents[0].pause(("shop", "b"), "too many complaints", "m-1")
    paused, _ = await contents[0].page(ListContentTypes(id="q", paused=True))

    assert [(each.client, each.name) for each in paused] == [("shop", "b")]
    assert found == [f"{client}/{name}" for client in ("other", "shop") for name in "abc"]
    assert [each.name for each in own] == ["a", "b", "c"]


async def test_a_content_type_with_subscriptions_stays(
    contents: Sequence[ContentStore], stores: Sequence[SubscriptionStore]
) -> None:
    """It is deleted when the last one has ended."""
    found = await add(stores[0])
    used = await contents[1].delete(NEWS)
    await stores[0].end(found.subscription_id, "shop")

    assert used is ContentResult.IN_USE
    assert [await contents[1].delete(NEWS) for _ in range(2)] == [
        ContentResult.DELETED,
        ContentResult.UNKNOWN,
    ]


async def test_no_subscription_is_left_without_content(
    contents: Sequence[ContentStore], stores: Sequence[SubscriptionStore]
) -> None:
    """Of a deletion and a subscription at the same moment, one is refused."""
    for _ in range(5):
        deleted, (added, _, _) = await asyncio.gather(
            contents[0].delete(NEWS), stores[1].subscribe(ANN)
        )
        assert (deleted, added) in {
            (ContentResult.DELETED, SubscriptionResult.NO_CONTENT_TYPE),
            (ContentResult.IN_USE, SubscriptionResult.CREATED),
        }
        await stores[0].end(subscription_id("shop", "news", ANN.email), None)
        await contents[0].save(SAVE)


async def test_twice_the_same_is_one_subscription(stores: Sequence[SubscriptionStore]) -> None:
    """Of two that add it at once, one does; also if the address has other capitals."""
    results = await asyncio.gather(*(each.subscribe(ANN) for each in [*stores, *stores]))
    again, _, _ = await stores[0].subscribe(asked(email="Ann@Example.org"))

    kinds = [each.result for each in results]
    assert kinds.count(SubscriptionResult.CREATED) == 1
    assert kinds.count(SubscriptionResult.UNCHANGED) == len(results) - 1
    assert again is SubscriptionResult.UNCHANGED
    assert len(await listed(stores[0])) == 1


async def test_two_that_differ_are_one_of_both(stores: Sequence[SubscriptionStore]) -> None:
    """Of two with other fields at once the later one replaces the first."""
    results = await asyncio.gather(
        stores[0].subscribe(ANN), stores[1].subscribe(asked(frequency="@hourly"))
    )

    assert {each.result for each in results} == {
        SubscriptionResult.CREATED,
        SubscriptionResult.CHANGED,
    }


async def test_another_frequency_has_another_period(
    stores: Sequence[SubscriptionStore], clock: Clock
) -> None:
    """Its next period is the first one of the new frequency; other fields leave it alone."""
    first = await add(stores[0])
    clock.seconds += 2 * HOUR_SECONDS
    same = await add(stores[0], variables={"name": "Ann"})
    other = await add(stores[0], frequency="@hourly")

    assert same.next_at == first.next_at
    assert other.next_at is not None
    assert other.next_at - moment(round(clock.seconds * 1000)) <= timedelta(hours=1)
    assert other.created_at == first.created_at


async def test_a_pending_one_waits_for_its_subscriber(stores: Sequence[SubscriptionStore]) -> None:
    """It has no period until it is confirmed, and may be confirmed again."""
    pending = await add(stores[0], confirm=True)
    results = [await each.confirm(pending.subscription_id) for each in stores]
    again = await add(stores[0], confirm=True)

    assert (pending.status, pending.next_at) == (SubscriptionStatus.PENDING, None)
    for result, found, _ in results:
        assert (result, found and found.status) == (
            SubscriptionResult.CONFIRMED,
            SubscriptionStatus.ACTIVE,
        )
        assert found is not None
        assert found.next_at is not None
    assert again.status is SubscriptionStatus.ACTIVE
    assert await stores[0].confirm("0" * 32) == Answered(SubscriptionResult.UNKNOWN, None)


async def test_without_a_confirmation_it_begins(stores: Sequence[SubscriptionStore]) -> None:
    """A client that asks without `confirm` has the consent of the subscriber."""
    await add(stores[0], confirm=True)
    begun = await add(stores[0])

    assert begun.status is SubscriptionStatus.ACTIVE
    assert begun.next_at is not None


async def test_a_subscriber_is_asked_once_an_hour(
    stores: Sequence[SubscriptionStore], clock: Clock
) -> None:
    """A form on a web site cannot flood a stranger; the same question again asks again."""
    asks = []
    for identifier, seconds in (("a", 0), ("b", 10), ("a", 10), ("c", HOUR_SECONDS), ("d", 1)):
        clock.seconds += seconds
        answer = await stores[0].subscribe(asked(id=identifier, confirm=True))
        asks.append(answer.asks)
    active = await stores[0].subscribe(asked(id="e"))

    assert asks == [True, False, True, True, False]
    assert not active.asks


async def test_an_opt_out_ends_what_it_covers(
    stores: Sequence[SubscriptionStore], contents: Sequence[ContentStore], clock: Clock
) -> None:
    """It is of one list or of all, of one client or of all, and of what was there before."""
    store, at = stores[0], moment(round(clock.seconds * 1000))
    for client, name in (("shop", "offers"), ("other", "news")):
        await contents[0].save(SAVE.model_copy(update={"client": client, "name": name}))

    async def left(client: str | None, name: str | None, back: int = 0) -> int:
        for of, kind in (("shop", "news"), ("shop", "offers"), ("other", "news")):
            await add(store, client=of, content_type=kind)
        before = at - timedelta(seconds=back)
        await store.opt_out("ANN@example.org", client, name, before)
        return len(await listed(store))

    assert await left("shop", "news", back=1) == 3
    assert await left("shop", "news") == 2
    assert await left("shop", None) == 1
    assert await left(None, "news") == 1
    assert await left(None, None) == 0


async def test_a_forgotten_address_has_none(stores: Sequence[SubscriptionStore]) -> None:
    """Those of other addresses stay."""
    await add(stores[0])
    bob = await add(stores[0], email="bob@example.org")
    ended = [await stores[1].forget("ANN@example.org") for _ in range(2)]

    assert ended == [1, 0]
    assert await listed(stores[0]) == [bob.subscription_id]


async def test_nothing_refers_to_a_forgotten_person(
    replicas: Sequence[Database],
    contents: Sequence[ContentStore],
    stores: Sequence[SubscriptionStore],
    clock: Clock,
) -> None:
    """The reports on his mails are gone, of ended subscriptions too; those of others stay."""
    runs, period = RunStore(replicas[0], clock), moment(1_900_000_000_000)
    for email in (ANN.email, "bob@example.org"):
        newsletter = NewsletterId(subscription_id("shop", "news", email), period)
        await runs.report(NEWS, newsletter, UNKNOWN_MAILBOX)
        await contents[0].pause(NEWS, "too many", str(newsletter))
        await contents[0].resume(NEWS)
    pending = await add(stores[0], confirm=True, email="ANN@example.org")
    await stores[0].forget(ANN.email)

    async def rows(column: sa.Column[str]) -> list[str]:
        return [*await replicas[1].read(lambda c: c.scalars(sa.select(column)).all())]

    bob = f"{subscription_id('shop', 'news', 'bob@example.org')}.20300317T174640Z"
    assert pending.status is SubscriptionStatus.PENDING
    assert await rows(tables.subscriptions.c.id) == []
    assert await rows(tables.reports.c.email_id) == [bob]
    assert await rows(tables.content_types.c.paused_by) == [bob]


async def test_what_is_never_confirmed_is_purged(
    stores: Sequence[SubscriptionStore], clock: Clock
) -> None:
    """A pending subscription goes some days after its subscriber was last asked; others stay."""
    active = await add(stores[0], email="bob@example.org")
    asked_again = await add(stores[0], confirm=True, email="eve@example.org")
    await add(stores[0], confirm=True)
    clock.seconds += HOUR_SECONDS
    await add(stores[0], confirm=True, email="eve@example.org", id="q2")
    clock.seconds += 30 * 24 * HOUR_SECONDS - HOUR_SECONDS
    early = await stores[1].purge(30)
    clock.seconds += 1
    purged = [await stores[1].purge(30) for _ in range(2)]

    assert (early, purged) == (0, [1, 0])
    assert {*await listed(stores[0])} == {active.subscription_id, asked_again.subscription_id}


async def test_subscriptions_are_paged(stores: Sequence[SubscriptionStore]) -> None:
    """Each page goes on where the last one ended; a query leaves fewer, whatever the capitals."""
    emails = [f"{number}@example.org" for number in range(5)]
    ids = [(await add(stores[0], email=each)).subscription_id for each in emails]
    found, after = list[str](), None
    while not found or after is not None:
        page, after = await stores[0].page(ListSubscriptions(id="q", after=after, limit=2))
        found += [each.subscription_id for each in page]

    assert found == sorted(ids)
    assert await listed(stores[0], email="3@EXAMPLE.org", content_type="news") == [ids[3]]
    assert await listed(stores[0], client="other") == []
    assert await listed(stores[0], content_type="offers") == []


async def test_only_its_client_ends_it(stores: Sequence[SubscriptionStore]) -> None:
    """To another client it is unknown; without a client it is any."""
    found = await add(stores[0])
    identifier = found.subscription_id

    assert await stores[0].describe(identifier, "other") is None
    assert await stores[0].end(identifier, "other") is SubscriptionResult.UNKNOWN
    assert await stores[0].describe(identifier, None) == found
    assert await stores[0].end(identifier, None) is SubscriptionResult.ENDED
