"""Token buckets in both databases, shared by all replicas."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.storage.database import Database
from shared.storage.rate import Rate
from shared.storage.rate_limit import Reservations, TokenBuckets
from tests.clock import Clock, Watch
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


async def test_a_clock_put_back(buckets: TokenBuckets, clock: Clock) -> None:
    """Tokens used at a time that has not come yet hold up nobody until then."""
    await taken(buckets, 30)
    clock.seconds -= 3600

    assert await taken(buckets, 30) == 10


async def test_left(buckets: TokenBuckets, clock: Clock) -> None:
    """The tokens that are left are those that can be taken."""
    assert await buckets.left("a", TEN) == 10
    await taken(buckets, 7)
    assert await buckets.left("a", TEN) == 3
    await taken(buckets, 30)
    assert await buckets.left("a", TEN) == 0
    clock.seconds += 0.5
    assert await buckets.left("a", TEN) == 5
    clock.seconds += 3600
    assert await buckets.left("a", TEN) == 10


async def test_names(buckets: TokenBuckets) -> None:
    """Each name has a bucket of its own."""
    await taken(buckets, 30)

    assert await buckets.take("b", 1, 1, TEN) == 0


async def test_replicas(database: Database, clock: Clock) -> None:
    """Replicas that ask at once are granted no more than one would be."""
    both = [TokenBuckets(database, TABLE, clock) for _ in range(2)]

    assert sum(await asyncio.gather(*(taken(each, 20) for each in both))) == 10


class Chunks:
    """A bucket with a number of chunks, which notes each call."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.calls: list[tuple[str, int]] = []

    async def take(self, name: str, count: int, rate: Rate) -> float:
        """Return 0.0 while there is a chunk, else two seconds."""
        assert rate is TEN
        await asyncio.sleep(0)
        self.calls.append((name, count))
        self.left -= 1
        return 0.0 if self.left >= 0 else 2.0


async def test_uses_at_once_share_a_chunk() -> None:
    """Uses at once share one call for each chunk, and one for a refusal."""
    chunks = Chunks(2)
    reservations = Reservations(chunks.take, Watch())

    waits = await asyncio.gather(*(reservations.use("a", 1, TEN) for _ in range(20)))

    assert waits == [0.0] * 10 + [2.0] * 10
    assert chunks.calls == [("a", 5)] * 3


async def test_after_a_refusal() -> None:
    """A name that was refused is not asked for again before its time, and another name is."""
    chunks, watch = Chunks(0), Watch()
    reservations = Reservations(chunks.take, watch)

    waits = []
    for name, seconds in (("a", 0.0), ("a", 1.5), ("b", 0.0), ("a", 0.5)):
        watch.now += seconds
        waits.append(await reservations.use(name, 1, TEN))

    assert waits == [2.0, 0.5, 2.0, 2.0]
    assert chunks.calls == [("a", 5), ("b", 5), ("a", 5)]


async def test_more_than_a_chunk() -> None:
    """A use larger than a chunk asks for all that it needs, and leaves nothing."""
    chunks = Chunks(2)
    reservations = Reservations(chunks.take, Watch())

    assert [await reservations.use("a", count, TEN) for count in (12, 1)] == [0.0, 0.0]
    assert chunks.calls == [("a", 12), ("a", 5)]
