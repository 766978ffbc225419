"""Token buckets in both databases: what all replicas together may use."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.storage.database import Database
from shared.storage.rate import Pace
from shared.storage.rate_limit import Buckets
from tests.clock import Clock
from tests.databases import Opener

TEN = Pace(10)
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
def buckets(database: Database, clock: Clock) -> Buckets:
    """Give the buckets of one test."""
    return Buckets(database, TABLE, clock)


async def taken(buckets: Buckets, times: int, count: int = 1) -> int:
    """Ask several times and give how often there was something."""
    return sum([not await buckets.take("a", count, count, TEN) for _ in range(times)])


async def test_burst(buckets: Buckets) -> None:
    """After a pause there is a burst, then nothing."""
    assert await taken(buckets, 30) == 10


async def test_refilled(buckets: Buckets, clock: Clock) -> None:
    """Time brings more, at the pace and up to the burst."""
    await taken(buckets, 30)
    clock.seconds += 0.5
    after_a_while = await taken(buckets, 30)
    clock.seconds += 36_000

    assert after_a_while == 5
    assert await taken(buckets, 30) == 10


async def test_wait(buckets: Buckets, clock: Clock) -> None:
    """Who comes too early is told how much, and coming then is early enough."""
    slow = Pace(0.1)
    await buckets.take("a", 1, 1, slow)
    clock.seconds += 4
    wait = await buckets.take("a", 1, 1, slow)
    clock.seconds += wait

    assert wait == pytest.approx(6)
    assert await buckets.take("a", 1, 1, slow) == 0


async def test_chunks(buckets: Buckets, clock: Clock) -> None:
    """Taken in any portions it is as much."""
    assert await taken(buckets, 9, count=5) == 2
    clock.seconds += 1
    assert await taken(buckets, 9, count=5) == 2


async def test_room(buckets: Buckets, clock: Clock) -> None:
    """Nothing is taken before there is room for what was asked; then all is, even beyond it."""
    await taken(buckets, 30)
    clock.seconds += 0.1

    assert await buckets.take("a", 5, 5, TEN) == pytest.approx(0.4)
    assert await buckets.take("a", 5, 1, TEN) == 0
    assert await buckets.take("a", 5, 1, TEN) == pytest.approx(0.5)


async def test_names(buckets: Buckets) -> None:
    """Each bucket is one of its own."""
    await taken(buckets, 30)

    assert await buckets.take("b", 1, 1, TEN) == 0


async def test_replicas(database: Database, clock: Clock) -> None:
    """However many ask at once, together they have no more than one."""
    both = [Buckets(database, TABLE, clock) for _ in range(2)]

    assert sum(await asyncio.gather(*(taken(each, 20) for each in both))) == 10
