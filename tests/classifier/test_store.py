"""The evidence in both databases: counted once, announced at every copy, forgotten in time."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.classifier import store as store_module
from services.classifier.evidence import BOUNCE, DELIVERY, Change, Evidence, Observation, Rule
from services.classifier.service import MIGRATIONS
from services.classifier.store import EvidenceStore
from services.classifier.tables import changes, domains, metadata, seen
from shared.contracts import Verdict
from shared.database import Database
from tests.clock import Clock

AT = datetime(2030, 1, 1, tzinfo=UTC)
RULE = Rule(3)


@pytest.fixture
def clock() -> Clock:
    """Give the time of one test."""
    return Clock()


@pytest.fixture
async def database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("classifier", database_url, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(database: Database, clock: Clock) -> EvidenceStore:
    """Give the store of one test."""
    return EvidenceStore(database, RULE, clock)


@pytest.fixture
async def replica(
    database: Database, database_url: str | None, tmp_path: Path, clock: Clock
) -> AsyncIterator[EvidenceStore]:
    """Give the same store as another process has it."""
    del database  # opened first
    async with Database.open("classifier", database_url, tmp_path, MIGRATIONS) as opened:
        yield EvidenceStore(opened, RULE, clock)


def observation(
    number: int, evidence: Evidence = DELIVERY, domain: str = "example.com"
) -> Observation:
    """Give the observation that event `number` makes, a second later than the one before."""
    return Observation(f"e-{number}", domain, evidence, AT + timedelta(seconds=number))


async def deliver(store: EvidenceStore, count: int) -> list[Change | None]:
    """Count deliveries one after the other."""
    return [await store.count(observation(number)) for number in range(count)]


async def ids(database: Database, table: sa.Table) -> list[str]:
    """Give the events that a table knows."""
    return await database.read(lambda connection: list(connection.scalars(sa.select(table))))


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the store writes to are those that the migrations make."""
    differences = await database.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )

    assert differences == []


async def test_evidence_adds_up(store: EvidenceStore) -> None:
    """Each event adds to its domain, and a domain never seen has no evidence."""
    await store.count(observation(1))
    await store.count(observation(2))
    await store.count(observation(3, BOUNCE))
    await store.count(observation(4, BOUNCE, "example.org"))

    assert await store.evidence("example.com") == Evidence(2, 1)
    assert await store.evidence("example.org") == Evidence(0, 1)
    assert await store.evidence("example.net") == Evidence()


async def test_an_event_counts_once(store: EvidenceStore, replica: EvidenceStore) -> None:
    """Copies of one event, at two replicas at once, count once."""
    both = (store, replica)
    await asyncio.gather(*(both[number % 2].count(observation(1)) for number in range(20)))

    assert await store.evidence("example.com") == Evidence(1)


async def test_a_change_is_given_by_its_event(store: EvidenceStore, clock: Clock) -> None:
    """The event that turns the verdict gives the change, and no other event does."""
    given = await deliver(store, 5)

    at = datetime.fromtimestamp(clock.seconds, UTC)
    change = Change("e-3", "example.com", Verdict.CATCH_ALL, at)
    assert given == [None, None, None, change, None]


async def test_a_change_is_given_again(store: EvidenceStore, clock: Clock) -> None:
    """A copy of the event that turned the verdict gives the same change, whatever came since."""
    (*_, change) = await deliver(store, 4)
    clock.seconds += 100
    overturned = await store.count(observation(9, BOUNCE))

    assert change
    assert await store.count(observation(3)) == change
    assert overturned
    assert overturned.status == Verdict.NOT_CATCH_ALL
    assert await store.count(observation(9, BOUNCE)) == overturned
    assert overturned.at > change.at


async def test_one_change_at_once(store: EvidenceStore, replica: EvidenceStore) -> None:
    """Events that arrive at once, at two replicas, turn the verdict once."""
    both = (store, replica)
    given = await asyncio.gather(
        *(both[number % 2].count(observation(number)) for number in range(40))
    )

    assert [change.status for change in given if change] == [Verdict.CATCH_ALL]
    assert await store.evidence("example.com") == Evidence(40)


async def test_many_domains_at_once(store: EvidenceStore, replica: EvidenceStore) -> None:
    """Events of many domains in any order, copied, at two replicas: the sums are exact."""
    events = [
        observation(number, BOUNCE if number % 7 == 0 else DELIVERY, f"d{number % 5}.example")
        for number in range(70)
    ]
    copies = [*events, *events]
    random.Random(1).shuffle(copies)  # noqa: S311 -- an order, the same at each run
    both = (store, replica)
    await asyncio.gather(*(both[turn % 2].count(event) for turn, event in enumerate(copies)))

    for number in range(5):
        domain = f"d{number}.example"
        own = [event.evidence for event in events if event.domain == domain]
        expected = Evidence(own.count(DELIVERY), own.count(BOUNCE))
        assert await store.evidence(domain) == expected


async def test_first_and_last(store: EvidenceStore, database: Database) -> None:
    """A domain knows its first and last event by when they happened, not when they came."""
    for number in (5, 9, 2, 7):
        await store.count(observation(number))
    row = await database.read(lambda connection: connection.execute(sa.select(domains)).one())

    start = round(AT.timestamp() * 1000)
    assert (row.first_event_at, row.last_event_at) == (start + 2000, start + 9000)


async def test_old_ids_are_forgotten(
    store: EvidenceStore, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids leave when they are old enough, piece by piece; the sums stay."""
    monkeypatch.setattr(store_module, "PURGE_ROWS", 2)
    await deliver(store, 5)
    clock.seconds += 60
    kept = await store.purge(60)
    clock.seconds += 1
    await store.count(observation(9))

    assert kept == 0
    assert await store.purge(60) == 5
    assert await ids(database, seen) == ["e-9"]
    assert await ids(database, changes) == []
    assert await store.evidence("example.com") == Evidence(6)
