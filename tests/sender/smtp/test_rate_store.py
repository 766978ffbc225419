"""Tests of the rates in both databases: what all senders together may send."""

import asyncio

import pytest

from services.sender.service import MIGRATIONS
from services.sender.smtp.rate_store import PaceStore
from services.sender.tables import paces
from shared.errors import Retry
from shared.storage.database import Database
from shared.storage.rate import Pace
from tests.clock import Clock
from tests.databases import Opener

TEN = Pace(10)


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open the database of one test."""
    return await open_database("sender", MIGRATIONS)


@pytest.fixture
def store(database: Database, clock: Clock) -> PaceStore:
    """Give the store of one test."""
    return PaceStore(database, clock)


async def taken(store: PaceStore, times: int) -> int:
    """Ask several times and give how often there was something."""
    return sum([not await store.take("a", 1, TEN) for _ in range(times)])


async def test_burst(store: PaceStore) -> None:
    """After a pause there is a burst, then nothing."""
    assert await taken(store, 30) == 10


async def test_more_than_a_burst(store: PaceStore, clock: Clock) -> None:
    """A mail for very many is not held up for ever; those after it wait for it."""
    assert await store.take("a", 100, TEN) == 0
    assert await store.take("a", 1, TEN) == pytest.approx(9.1)
    clock.seconds += 9.1
    assert await store.take("a", 1, TEN) == 0


async def test_replicas(store: PaceStore, open_database: Opener, clock: Clock) -> None:
    """Two senders together have no more than one."""
    replica = PaceStore(await open_database("sender", MIGRATIONS), clock)

    assert sum(await asyncio.gather(taken(store, 20), taken(replica, 20))) == 10


async def test_database_away(store: PaceStore, database: Database) -> None:
    """Without its table nothing is known of a rate, so the mail comes again later."""
    await database.write(paces.drop)

    with pytest.raises(Retry):
        await store.take("a", 1, TEN)
