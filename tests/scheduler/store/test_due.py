"""Due subscriptions in both databases: taken by one scheduler, moved on, kept while paused."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from services.scheduler.plan import due_at
from services.scheduler.recurrence import Recurrence
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import (
    DueStore,
    DueSubscription,
    Leases,
    Step,
    milliseconds,
    moment,
)
from services.scheduler.store.runs import RunStore
from services.scheduler.store.subscriptions import SubscriptionStore
from services.scheduler.store.tables import metadata, subscriptions
from shared.contracts import SaveContentType, Subscribe
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import Opener, differences

LEASE_SECONDS = 60.0
DAY = timedelta(days=1)
NEWS = ("shop", "news")


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open the tables."""
    return await open_database("scheduler", MIGRATIONS)


@pytest.fixture
async def stores(open_database: Opener, clock: Clock) -> Sequence[DueStore]:
    """Open the stores of two schedulers."""
    return [
        DueStore(await open_database("scheduler", MIGRATIONS), new_leases(), clock)
        for _ in range(2)
    ]


@pytest.fixture
def store(stores: Sequence[DueStore]) -> DueStore:
    """Return the store of one scheduler."""
    return stores[0]


def new_leases() -> Leases:
    """Return the leases of one scheduler."""
    return Leases(timedelta(seconds=LEASE_SECONDS))


async def subscribe(
    database: Database,
    clock: Clock,
    count: int,
    frequency: str = "@daily",
    client: str = "shop",
) -> list[str]:
    """Add subscriptions that are due at the same time; return their ids."""
    await ContentStore(database, clock).save(
        SaveContentType(
            id="q", client=client, name="news", replaces=False, subject="s", html="<p>x</p>"
        )
    )
    store, ids = SubscriptionStore(database, timedelta(0), clock), list[str]()
    for number in range(count):
        asked = Subscribe(
            id="q",
            client=client,
            email=f"a{number}@example.org",
            content_type="news",
            frequency=frequency,
        )
        _, found, _ = await store.subscribe(asked)
        assert found is not None
        ids.append(found.subscription_id)
    return ids


async def rows(database: Database) -> dict[str, tuple[datetime, datetime | None, str | None]]:
    """Return period, due time and token of all subscriptions by id."""
    table = subscriptions.c
    look = sa.select(table.id, table.period_at, table.due_at, table.token)
    found = await database.read(lambda c: c.execute(look).all())
    return {
        row.id: (moment(row.period_at), row.due_at and moment(row.due_at), row.token)
        for row in found
    }


def steps(taken: Sequence[DueSubscription]) -> list[Step]:
    """Return the next step of subscriptions that are mailed their period."""
    found = []
    for each in taken:
        following = each.recurrence.after(each.period)
        found.append(Step(each, each.period, following, following))
    return found


async def published(database: Database) -> list[int]:
    """Return the mails of the runs, the latest run first."""
    found, _ = await RunStore(database).page(NEWS, None, 10)
    return [each.published for each in found]


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the stores write to are those that the migrations make."""
    assert await differences(database, metadata) == []


async def test_nothing_is_taken_before_it_is_due(
    database: Database, store: DueStore, clock: Clock
) -> None:
    """A subscription is taken from its due time on, and then not until its lease is over."""
    (one,) = await subscribe(database, clock, 1)
    _, due, _ = (await rows(database))[one]
    assert due is not None

    clock.seconds = due.timestamp() - 0.001
    early = await store.take({NEWS: 10})
    clock.seconds += 0.001
    taken = await store.take({NEWS: 10})
    clock.seconds += LEASE_SECONDS - 0.001
    leased = await store.take({NEWS: 10})
    clock.seconds += 0.001
    again = await store.take({NEWS: 10})

    assert (early.subscriptions, leased.subscriptions) == ([], [])
    assert [each.id for each in taken.subscriptions] == [one]
    assert taken.at.timestamp() == pytest.approx(clock.seconds - LEASE_SECONDS)
    assert [each.period for each in again.subscriptions] == [taken.subscriptions[0].period]
    assert again.token != taken.token


async def test_the_longest_due_are_taken_first(
    database: Database, store: DueStore, clock: Clock
) -> None:
    """At most so many are taken as are asked for, those that are due for longest."""
    ids = await subscribe(database, clock, 5)
    begun = milliseconds(moment(round(clock.seconds * 1000)))
    for number, each in enumerate(ids):
        change = sa.update(subscriptions).where(subscriptions.c.id == each)
        late = change.values(due_at=begun - number * 1000)
        await database.write(partial(_execute, statement=late))

    first, second = await store.take({NEWS: 2}), await store.take({NEWS: 10})

    assert {each.id for each in first.subscriptions} == {ids[4], ids[3]}
    assert {each.id for each in second.subscriptions} == {ids[2], ids[1], ids[0]}


def _execute(connection: sa.Connection, statement: sa.Executable) -> None:
    connection.execute(statement)


async def test_no_two_schedulers_take_one_subscription(
    database: Database, stores: Sequence[DueStore], clock: Clock
) -> None:
    """Schedulers that look at once share what is due, and none of it is left."""
    ids = await subscribe(database, clock, 60)
    clock.seconds += 2 * 86_400
    found = await asyncio.gather(*(store.take({NEWS: 7}) for store in stores for _ in range(6)))
    taken = [each.id for one in found for each in one.subscriptions]
    rest = await stores[0].take({NEWS: 100})
    taken += [each.id for each in rest.subscriptions]

    assert sorted(taken) == sorted(ids)


async def test_a_locked_row_is_passed_over(
    database: Database, database_url: str | None, store: DueStore, clock: Clock
) -> None:
    """On PostgreSQL a scheduler does not wait for the rows of another's open transaction."""
    if database_url is None:
        pytest.skip("SQLite has one writer")
    ids = await subscribe(database, clock, 2)
    clock.seconds += 2 * 86_400
    engine = create_async_engine(database_url)
    lock = sa.text("SELECT 1 FROM scheduler.subscriptions WHERE id = :id FOR UPDATE")
    async with engine.begin() as connection:
        await connection.execute(lock, {"id": ids[0]})
        taken = await store.take({NEWS: 10})
    await engine.dispose()

    assert [each.id for each in taken.subscriptions] == [ids[1]]


async def test_a_subscription_moves_on(database: Database, store: DueStore, clock: Clock) -> None:
    """Moved on, a subscription is due at its next period, and its run counts each mail once."""
    ids = await subscribe(database, clock, 3)
    clock.seconds += 86_400
    taken = await store.take({NEWS: 10})
    done = steps(taken.subscriptions)

    assert await store.move(taken.token, done) == 3
    assert await store.move(taken.token, done) == 0
    assert await rows(database) == dict.fromkeys(ids, (done[0].following, done[0].following, None))
    assert await published(database) == [3]


async def test_one_without_a_mail_counts_in_no_run(
    database: Database, store: DueStore, clock: Clock
) -> None:
    """A period that was skipped moves the subscription on, and makes no run."""
    await subscribe(database, clock, 1)
    clock.seconds += 86_400
    taken = await store.take({NEWS: 10})
    (step,) = steps(taken.subscriptions)

    assert await store.move(taken.token, [step._replace(mailed=None)]) == 1
    assert await published(database) == []


async def test_only_the_holder_moves_a_subscription(
    database: Database, stores: Sequence[DueStore], clock: Clock
) -> None:
    """A scheduler whose lease is over neither moves nor counts what another has taken since."""
    await subscribe(database, clock, 2)
    clock.seconds += 86_400
    slow = await stores[0].take({NEWS: 10})
    clock.seconds += LEASE_SECONDS
    quick = await stores[1].take({NEWS: 1})
    moved_late = await stores[0].move(slow.token, steps(slow.subscriptions))
    moved = await stores[1].move(quick.token, steps(quick.subscriptions))

    assert (moved_late, moved) == (1, 1)
    assert await published(database) == [2]


async def test_a_change_of_the_times_wins(
    database: Database, store: DueStore, clock: Clock
) -> None:
    """A subscription whose times were changed while it was mailed keeps the new ones."""
    (one,) = await subscribe(database, clock, 1)
    clock.seconds += 86_400
    taken = await store.take({NEWS: 10})
    await subscribe(database, clock, 1, "@weekly")
    changed = (await rows(database))[one]

    assert await store.move(taken.token, steps(taken.subscriptions)) == 0
    assert (await rows(database))[one] == changed
    assert changed[0] == Recurrence("@weekly").after(taken.at)


async def test_a_paused_content_type(database: Database, store: DueStore, clock: Clock) -> None:
    """Subscriptions of a paused content type are not due until it is resumed, and then at once."""
    await subscribe(database, clock, 3)
    contents = ContentStore(database, clock)
    early = await store.find_due()
    clock.seconds += 86_400
    due = await store.find_due()
    await contents.pause(NEWS, "too many complaints", "m1")
    waiting = await store.find_due()
    await contents.resume(NEWS)

    assert (early, due, waiting) == ([], [NEWS], [])
    assert await store.find_due() == [NEWS]


async def test_each_content_type_gets_its_share(
    database: Database, store: DueStore, clock: Clock
) -> None:
    """Of each content type as many are taken as its share says, if so many are due."""
    await subscribe(database, clock, 5)
    await subscribe(database, clock, 2, client="bank")
    await subscribe(database, clock, 1, client="idle", frequency="@monthly")
    bank = ("bank", "news")
    clock.seconds += 86_400
    due = await store.find_due()
    taken = await store.take({bank: 3, NEWS: 3, ("idle", "news"): 3, ("none", "news"): 3})

    assert sorted(due) == [bank, NEWS]
    assert [each.key for each in taken.subscriptions] == [bank] * 2 + [NEWS] * 3


@pytest.mark.parametrize("frequency", ["@hourly", "@monthly", "15 8 * * 1-5"])
async def test_periods_far_ahead_are_set_back(
    database: Database, store: DueStore, clock: Clock, frequency: str
) -> None:
    """After a clock that was years ahead, a subscription is due at its next period."""
    ids = await subscribe(database, clock, 2, frequency)
    before = await rows(database)
    assert (await store.far_ahead()).recurrences == [] or frequency == "@monthly"
    ahead = sa.update(subscriptions).values(
        period_at=subscriptions.c.period_at + 1000 * 86_400_000,
        due_at=subscriptions.c.due_at + 1000 * 86_400_000,
    )
    await database.write(partial(_execute, statement=ahead))
    found = await store.far_ahead()
    ((recurrence, last),) = found.recurrences
    following = recurrence.after(found.at)
    back = partial(due_at, period=following, spread=timedelta(0))

    assert last == before[ids[0]][0] + 1000 * DAY
    assert await store.set_back(recurrence, following, back) == 2
    assert await rows(database) == before
    assert await store.set_back(recurrence, following, back) == 0
