"""Token buckets in both databases, shared by all replicas."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.storage.database import Database
from shared.storage.rate import Rate
from shared.storage.rate_limit import TokenBuckets
from tests.clock import Clock
from tests.databases import Opener

TEN = Rate(10)
TABLE = sa.Table(
    "rates",
    sa.MetaData(),
    sa.Column("whose", sa.Text, primary_key=True),
    sa.Column("used_until", sa.BigInteger, nullable=False),
)


@pytest.fixture
async def database(open_database: Opener, tmp_path: Path) -> Database:
    """Open a database with a table of buckets."""
    (tmp_path / "migrations").mkdir()
    opened = await open_database("notes", tmp_path / "migrations")
    await opened.write(TABLE.create)
    return opened


@pytest.fixture
def buckets(database: Database, clock: Clock) -> TokenBuckets:
    """Return the buckets of one test."""
    return TokenBuckets(database, TABLE, clock)


async def taken(buckets: TokenBuckets, times: int, count: int = 1) -> int:
    """Ask several times and return how often tokens were granted."""
    return sum([not await buckets.take("a", count, count, TEN) for _ in range(times)])


async def test_burst(buckets: TokenBuckets) -> None:
    """After a pause there is a burst, then nothing."""
    assert await taken(buckets, 30) == 10


async def test_refilled(buckets: TokenBuckets, clock: Clock) -> None:
    """A bucket refills at its rate, up to the burst."""
    await taken(buckets, 30)
    clock.seconds += 0.5
    after_a_while = await taken(buckets, 30)
    clock.seconds += 36_000

    assert after_a_while == 5
    assert await taken(buckets, 30) == 10


async def test_wait(buckets: TokenBuckets, clock: Clock) -> None:
    """A refusal returns the seconds to wait, after which tokens are granted."""
    slow = Rate(0.1)
    await buckets.take("a", 1, 1, slow)
    clock.seconds += 4
    wait = await buckets.take("a", 1, 1, slow)
    clock.seconds += wait

    assert wait == pytest.approx(6)
    assert await buckets.take("a", 1, 1, slow) == 0


async def test_chunks(buckets: TokenBuckets, clock: Clock) -> None:
    """The size of the portions does not change the rate."""
    assert await taken(buckets, 9, count=5) == 2
    clock.seconds += 1
    assert await taken(buckets, 9, count=5) == 2


async def test_room(buckets: TokenBuckets, clock: Clock) -> None:
    """Tokens are granted only if there is room, and then may exceed the burst."""
    await taken(buckets, 30)
    clock.seconds += 0.1

    assert await buckets.take("a", 5, 5, TEN) == pytest.approx(0.4)
    assert await buckets.take("a", 5, 1, TEN) == 0
    assert await buckets.take("a", 5, 1, TEN) == pytest.approx(0.5)


async def test_names(buckets: TokenBuckets) -> None:
    """Each name has a bucket of its own."""
    await taken(buckets, 30)

    assert await buckets.take("b", 1, 1, TEN) == 0


async def test_replicas(database: Database, clock: Clock) -> None:
    """Replicas that ask at once are granted no more than one would be."""
    both = [TokenBuckets(database, TABLE, clock) for _ in range(2)]

    assert sum(await asyncio.gather(*(taken(each, 20) for each in both))) == 10
