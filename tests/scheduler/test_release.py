"""Newsletters that are released: each period once, over kills, a moving clock and all zones."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import available_timezones

import pytest
import sqlalchemy as sa

from services.scheduler.newsletters import NewsletterMaker
from services.scheduler.plan import due_at
from services.scheduler.recurrence import Recurrence
from services.scheduler.release import WORKERS, Releaser, Room
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import DueStore, Leases, moment
from services.scheduler.store.runs import RunStore
from services.scheduler.store.subscriptions import SubscriptionStore
from services.scheduler.store.tables import runs, subscriptions
from shared.contracts import Category, Contract, Missed, SaveContentType, SendEmail, Subscribe
from shared.contracts.content import NewsletterId
from shared.errors import Unavailable
from shared.links import Links
from shared.runtime.sealing import Sealer
from shared.storage.database import Database
from shared.topology import shard_of, shard_queues
from tests.clock import Clock
from tests.databases import Opener
from tests.scheduler.conftest import LINK_KEY, PUBLIC_URL, rendered_here

# The clocks of both hemispheres change in these; SIMULATED_DAYS=731 are two years.
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = int(os.environ.get("SIMULATED_DAYS", "45"))
SPREAD = timedelta(minutes=2)
LEASE = timedelta(seconds=60)
KILLED, SET_BACK = 0.2, 0.02  # the shares of steps at which these happen
NO_ZONES = {"Factory", "localtime"}  # of a host, which no subscription may have
# For the zones in turn. Those with ALL are looked at with the others, after up to a week.
FREQUENCIES = (
    ("@weekly", None, Missed.LATEST),
    ("@weekly", "sun 02:30", Missed.SKIP),
    ("@monthly", "31 02:30", Missed.LATEST),
    ("30 2 * * 0", None, Missed.LATEST),
    ("@daily", "02:30", Missed.ALL),
    ("@monthly", "29 00:00", Missed.SKIP),
)
NEWS = SaveContentType(
    id="q", name="news", replaces=False, subject="{{ name }}", html="<p>Hello {{ name }}</p>"
)


class KilledError(Exception):
    """The process is gone; nothing after it happens."""


@dataclass
class Outbox:
    """A broker that keeps what is published, and at which schedulers are killed."""

    chance: random.Random
    killed: float = 0.0
    refused: frozenset[str] = frozenset()
    ids: Counter[str] = field(default_factory=Counter)
    waiting: dict[str, int] = field(default_factory=dict)  # by queue

    async def count_waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        return self.waiting.get(queue, 0)

    async def publish_all(self, messages: Sequence[Contract]) -> Mapping[str, Unavailable]:
        """Keep all messages, or a part of them before the publisher is killed."""
        await asyncio.sleep(0)
        kept = list(messages)
        killed = self.chance.random() < self.killed
        if killed:
            kept = kept[: self.chance.randrange(len(kept) + 1)]
        for each in kept:
            assert isinstance(each, SendEmail)
            if each.to[0] not in self.refused:
                self.ids[each.id] += 1
        if killed:
            raise KilledError
        return {
            each.id: Unavailable("refused")
            for each in kept
            if isinstance(each, SendEmail) and each.to[0] in self.refused
        }


@dataclass(frozen=True)
class World:
    """A database, its clock and a broker."""

    database: Database
    clock: Clock
    outbox: Outbox

    @property
    def now(self) -> datetime:
        """The time of the database."""
        return moment(round(self.clock.seconds * 1000))

    def scheduler(self, rate: float = 1e9) -> Releaser:
        """Return the releaser of a process that has just started."""
        links = Links(PUBLIC_URL, Sealer.from_text(LINK_KEY))
        return Releaser(
            DueStore(self.database, Leases(LEASE), self.clock),
            ContentStore(self.database, self.clock).find,
            self.outbox.publish_all,
            NewsletterMaker(links, None),
            rendered_here,
            Room(self.outbox.count_waiting, 1000),
            SPREAD,
            rate,
            self.outbox.chance.random,
        )

    async def subscribe(self, name: str, variables: object = None, **more: object) -> str:
        """Add a subscription; return its id."""
        await ContentStore(self.database, self.clock).save(NEWS)
        fields = {
            "id": "q",
            "email": f"{name}@example.org",
            "content_type": "news",
            "frequency": "@daily",
            "variables": {"name": "x"} if variables is None else variables,
        }
        store = SubscriptionStore(self.database, SPREAD, self.clock)
        _, found, _ = await store.subscribe(Subscribe.model_validate(fields | more))
        assert found is not None
        return found.subscription_id

    async def published(self) -> int:
        """Return the sum of the runs' mails."""
        look = sa.select(sa.func.coalesce(sa.func.sum(runs.c.published), 0))
        return await self.database.read(lambda c: int(c.execute(look).scalar_one()))


@pytest.fixture
async def world(open_database: Opener, clock: Clock) -> World:
    """Open an empty database."""
    clock.seconds = START.timestamp()
    chance = random.Random(13)  # noqa: S311 -- the same kills each time
    return World(await open_database("scheduler", MIGRATIONS), clock, Outbox(chance))


async def test_what_the_broker_refuses_is_mailed_later(world: World) -> None:
    """A mail without a confirm is published again at the next look; the others are mailed once."""
    good, bad = await world.subscribe("good"), await world.subscribe("bad")
    world.outbox.refused = frozenset({"bad@example.org"})
    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    scheduler = world.scheduler()
    await scheduler.run()
    before = world.outbox.ids.total()
    world.outbox.refused = frozenset()
    await scheduler.run()

    assert before == 1
    period = START + timedelta(days=1)
    assert world.outbox.ids == {str(NewsletterId(each, period)): 1 for each in (good, bad)}
    assert await world.published() == 2


async def test_one_that_fails_stops_no_other(world: World) -> None:
    """A subscription that cannot be read is tried again later, and the others are mailed."""
    broken, good = await world.subscribe("broken"), await world.subscribe("good")
    damage = sa.update(subscriptions).where(subscriptions.c.id == broken).values(variables="{")
    await world.database.write(lambda c: c.execute(damage).rowcount)
    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    await world.scheduler().run()

    assert [NewsletterId.read(each) for each in world.outbox.ids] == [
        NewsletterId(good, START + timedelta(days=1))
    ]


async def test_variables_that_do_not_fit_skip_a_period(world: World) -> None:
    """A mail whose variables miss one is not made, and its run says so; the next one may be."""
    await world.subscribe("ann", {})
    await world.subscribe("bo")
    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    await world.scheduler().run()
    world.clock.seconds += LEASE.total_seconds()
    await world.scheduler().run()
    assert world.outbox.ids.total() == 1
    await world.subscribe("ann", {"name": "Ann"})
    world.clock.seconds += 86_400
    await world.scheduler().run()
    found, _ = await RunStore(world.database, world.clock).page(("", "news"), None, 10)

    assert world.outbox.ids.total() == 3
    assert [(each.published, each.unfit) for each in found] == [(2, 0), (1, 1)]


async def test_many_large_mails_are_published_in_parts(world: World) -> None:
    """Mails are published before all of a batch are in memory, if they are large."""
    sizes: list[int] = []
    html = f"<p>{{{{ name }}}}{'x' * 100_000}</p>"
    await ContentStore(world.database, world.clock).save(NEWS.model_copy(update={"html": html}))
    for number in range(100):
        await world.subscribe(f"a{number}")

    async def publish_all(messages: Sequence[Contract]) -> Mapping[str, Unavailable]:
        sizes.append(len(messages))
        return await world.outbox.publish_all(messages)

    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    scheduler = world.scheduler()
    await replace(scheduler, publish_all=publish_all).run()

    assert max(sizes) < 100
    assert world.outbox.ids.total() == sum(sizes) == 100


async def test_a_full_queue_holds_its_client_alone(world: World) -> None:
    """While a client's queue is full its subscriptions stay due, and other clients' mails go on."""
    for client in ("shop", "bank"):
        await ContentStore(world.database, world.clock).save(
            NEWS.model_copy(update={"client": client})
        )
    full, free = [await world.subscribe("ann", client=each) for each in ("shop", "bank")]
    queue = shard_queues(Category.BULK)[shard_of("shop")]
    world.outbox.waiting = {queue: 1000}
    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    await world.scheduler().run()
    before = [*world.outbox.ids]
    world.outbox.waiting = {queue: 999}
    await world.scheduler().run()

    period = START + timedelta(days=1)
    assert shard_of("shop") != shard_of("bank")
    assert before == [str(NewsletterId(free, period))]
    assert [*world.outbox.ids] == [*before, str(NewsletterId(full, period))]


async def test_a_clock_that_was_ahead(world: World) -> None:
    """Mails go on at their times after a clock that was years ahead for some time."""
    one = await world.subscribe("ann", frequency="@weekly")
    world.clock.seconds += 1000 * 86_400
    await world.scheduler().run()
    world.clock.seconds -= 999 * 86_400
    scheduler = world.scheduler()
    await scheduler.set_back()
    world.clock.seconds += 7 * 86_400
    await scheduler.run()

    next_period = Recurrence("@weekly").after(START + timedelta(days=1))
    assert str(NewsletterId(one, next_period)) in world.outbox.ids
    look = sa.select(subscriptions.c.due_at)
    due = await world.database.read(lambda c: c.execute(look).scalar_one())
    assert moment(due) == due_at(one, next_period + timedelta(days=7), SPREAD)


async def test_a_broker_that_fails_ends_the_pass(world: World) -> None:
    """A broker that fails ends the pass: no more is taken, and all that was is due at once."""
    html = f"<p>{{{{ name }}}}{'x' * 100_000}</p>"
    await ContentStore(world.database, world.clock).save(NEWS.model_copy(update={"html": html}))
    for number in range(300):
        await world.subscribe(f"a{number}")
    calls = list[int]()

    async def refuse(messages: Sequence[Contract]) -> Mapping[str, Unavailable]:
        calls.append(len(messages))
        return {each.id: Unavailable("away") for each in messages}

    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    scheduler = world.scheduler(rate=200)
    await replace(scheduler, publish_all=refuse).run()
    table = subscriptions.c
    look = sa.select(table.token, table.due_at)
    found = await world.database.read(lambda c: c.execute(look).all())

    assert len(calls) == WORKERS
    assert sum(calls) < 200
    assert {row.token for row in found} == {None}
    assert max(row.due_at for row in found) <= world.clock.seconds * 1000
    assert await world.published() == 0
    await replace(scheduler, rate=1e9).run()
    assert set(world.outbox.ids.values()) == {1}
    assert len(world.outbox.ids) == 300


async def test_an_unreachable_broker_takes_nothing(world: World) -> None:
    """While the broker is away no subscription is taken."""
    await world.subscribe("ann")

    async def count_waiting(queue: str) -> int:
        raise Unavailable(queue)

    world.clock.seconds += 86_400 + SPREAD.total_seconds()
    scheduler = world.scheduler()
    await replace(scheduler, room=Room(count_waiting, 1000)).run()
    look = sa.select(subscriptions.c.token)
    assert await world.database.read(lambda c: c.execute(look).scalar_one()) is None
    await scheduler.run()

    assert world.outbox.ids.total() == 1


async def test_a_small_client_does_not_wait_for_a_large_one(world: World) -> None:
    """A client whose mail is due after much of another's is mailed among the first."""
    published, done = list[str](), asyncio.Event()
    for client in ("large", "small"):
        await ContentStore(world.database, world.clock).save(
            NEWS.model_copy(update={"client": client})
        )
    for number in range(200):
        await world.subscribe(f"a{number}", client="large")
    few = {await world.subscribe(f"b{number}", client="small") for number in range(3)}
    late = sa.update(subscriptions).where(subscriptions.c.client == "small")
    change = late.values(due_at=subscriptions.c.due_at + SPREAD // timedelta(milliseconds=1))
    await world.database.write(lambda c: c.execute(change).rowcount)

    async def publish_all(messages: Sequence[Contract]) -> Mapping[str, Unavailable]:
        if not done.is_set():
            published.extend(each.id for each in messages)
        if few <= {str(each.subscription) for each in map(NewsletterId.read, published) if each}:
            done.set()
        return await world.outbox.publish_all(messages)

    world.clock.seconds += 86_400 + 2 * SPREAD.total_seconds()
    scheduler = replace(world.scheduler(rate=100), publish_all=publish_all)
    running = asyncio.create_task(scheduler.run())
    await done.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert len(published) <= 100


async def _next_due(world: World) -> datetime:
    which = subscriptions.c.missed != Missed.ALL.value
    look = sa.select(sa.func.min(subscriptions.c.due_at)).where(which)
    return moment(await world.database.read(lambda c: c.execute(look).scalar_one()))


async def _run_until_killed(scheduler: Releaser) -> bool:
    try:
        await scheduler.run()
    except KilledError:
        return False
    return True


async def _simulate(world: World, end: datetime) -> None:
    """Run two schedulers from one due time to the next, and start those anew that were killed."""
    chance = world.outbox.chance
    schedulers = [world.scheduler(), world.scheduler()]
    while world.now < end:
        ahead = max(await _next_due(world), world.now) + timedelta(seconds=chance.randrange(300))
        world.clock.seconds = ahead.timestamp()
        if chance.random() < SET_BACK:
            world.clock.seconds -= chance.randrange(7200)
        alive = await asyncio.gather(*map(_run_until_killed, schedulers))
        schedulers = [
            each if lives else world.scheduler()
            for each, lives in zip(schedulers, alive, strict=True)
        ]


@pytest.mark.timeout(20 * DAYS)
async def test_each_period_once_in_every_zone(world: World) -> None:
    """Two schedulers that are killed at random mail each period of each zone under one id."""
    end, wanted = START + timedelta(days=DAYS), set[str]()
    for number, zone in enumerate(sorted(available_timezones() - NO_ZONES)):
        frequency, at, missed = FREQUENCIES[number % len(FREQUENCIES)]
        one = await world.subscribe(
            f"a{number}", frequency=frequency, at=at, missed=missed, timezone=zone
        )
        periods = Recurrence(frequency, zone, at).periods(START)
        wanted |= {
            str(NewsletterId(one, each)) for each in takewhile(lambda each: each <= end, periods)
        }
    world.outbox.killed = KILLED
    await _simulate(world, end)
    world.outbox.killed = 0.0
    # The last step may be long after the end; what was taken there is due after its lease.
    world.clock.seconds = (max(world.now, end + SPREAD) + 2 * LEASE).timestamp()
    await world.scheduler().run()
    found = {each: count for each, count in world.outbox.ids.items() if _period(each) <= end}

    assert found.keys() == wanted
    assert max(found.values()) > 1  # killed between the publish and the move
    assert await world.published() == len(world.outbox.ids)


def _period(email_id: str) -> datetime:
    found = NewsletterId.read(email_id)
    assert found is not None
    return found.period
