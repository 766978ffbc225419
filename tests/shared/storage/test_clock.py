"""The database's time on a host whose own time may be anything."""

from datetime import UTC, datetime, timedelta

import pytest

from ops import ports
from services.sender.service import MIGRATIONS
from shared.storage.database import Database, DatabaseClock
from shared.storage.postgres import PostgresDatabase
from tests.clock import Clock, Watch
from tests.databases import Opener

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open some database for one test."""
    return await open_database("sender", MIGRATIONS)


async def test_the_time_is_that_of_the_database(database: Database, clock: Clock) -> None:
    """The time is the database's, not the host's, and goes on by the steady clock."""
    clock.seconds = NOON.timestamp()
    steady = Watch(now=5.0)
    ours = DatabaseClock(database, steady, clock)
    await ours.ask()
    steady.now += 90
    clock.seconds += 3600

    assert ours.now() == NOON + timedelta(seconds=90)


async def test_a_jump_counts_from_when_it_is_seen(database: Database, clock: Clock) -> None:
    """The time follows a database's clock that was corrected, forward or back."""
    steady = Watch()
    ours = DatabaseClock(database, steady, clock)
    seen = []
    for moved in (0, 3600, -3600):
        clock.seconds = NOON.timestamp() + moved
        await ours.ask()
        seen.append(ours.now() - NOON)

    assert seen == [timedelta(), timedelta(hours=1), timedelta(hours=-1)]


async def test_the_real_one(database: Database) -> None:
    """Both databases return the time since 1970 in the same unit."""
    ours = DatabaseClock(database)
    await ours.ask()

    assert abs(ours.now() - datetime.now(UTC)) < timedelta(seconds=5)


async def test_a_database_that_is_away() -> None:
    """A database that is away raises OSError, and the time goes on."""
    [nowhere] = ports.unused(1)
    server = PostgresDatabase(f"postgresql+asyncpg://127.0.0.1:{nowhere}/x", "sender")
    steady = Watch()
    ours = DatabaseClock(Database(server), steady)
    with pytest.raises(OSError, match=str(nowhere)):
        await ours.ask()
    before = ours.now()
    steady.now += 1

    assert ours.now() - before == timedelta(seconds=1)
