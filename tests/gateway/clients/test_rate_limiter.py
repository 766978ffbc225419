"""The quota of a client's requests."""

import asyncio

import pytest

from services.gateway.api.problem import Problem
from services.gateway.clients.rate_limiter import RateLimiter
from shared.storage.rate import Rate


class Taken:
    """A store with a number of chunks that counts its calls."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.asked = 0

    async def take(self, client: str, count: int, quota: Rate) -> float:
        """Return 0.0 while there is a chunk."""
        assert (client, count) == ("shop", quota.chunk)
        await asyncio.sleep(0)
        self.asked += 1
        self.chunks -= 1
        return 0.0 if self.chunks >= 0 else 3.5


async def admitted(rate_limiter: RateLimiter, times: int) -> int:
    """Return how many of some requests at once were admitted."""
    ends = await asyncio.gather(
        *(rate_limiter.admit("shop") for _ in range(times)), return_exceptions=True
    )
    refusals = [end for end in ends if isinstance(end, Problem)]
    assert len(refusals) + ends.count(None) == times
    assert all((each.type.status, each.headers["Retry-After"]) == (429, "4") for each in refusals)
    return ends.count(None)


async def test_without_a_quota_no_request_is_counted() -> None:
    """Without a quota all requests are admitted, and the store is not asked."""
    taken = Taken(0)

    assert await admitted(RateLimiter(None, taken.take, lambda: 0.0), 1000) == 1000
    assert taken.asked == 0


async def test_no_more_are_admitted_than_granted() -> None:
    """Requests at once share one call of the store for each chunk, and for a refusal."""
    taken = Taken(3)

    assert await admitted(RateLimiter(Rate(10), taken.take, lambda: 0.0), 100) == 15
    assert taken.asked == 4


async def test_after_its_time_it_is_asked_again() -> None:
    """After the seconds of a refusal the store is asked again."""
    now, taken = 0.0, Taken(0)
    rate_limiter = RateLimiter(Rate(10), taken.take, lambda: now)
    assert await admitted(rate_limiter, 5) == 0

    now, taken.chunks = 3.5, 1
    assert await admitted(rate_limiter, 5) == 5


async def test_a_store_that_is_away_admits_no_request() -> None:
    """A request that cannot be counted is not admitted."""

    async def take(client: str, count: int, quota: Rate) -> float:
        raise ConnectionError(client, count, quota)

    with pytest.raises(ConnectionError):
        await RateLimiter(Rate(10), take, lambda: 0.0).admit("shop")
