"""Letting by as often as allowed."""

import asyncio

import pytest

from services.gateway.api.problem import Problem
from services.gateway.clients.rate_limiter import RateLimiter
from shared.storage.rate import Rate


class Taken:
    """Gives so many chunks and remembers how often it was asked."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.asked = 0

    async def take(self, client: str, quota: Rate) -> float:
        """Give a chunk while there is one."""
        del client, quota
        await asyncio.sleep(0)
        self.asked += 1
        self.chunks -= 1
        return 0.0 if self.chunks >= 0 else 3.5


async def let_by(rate_limiter: RateLimiter, times: int) -> int:
    """Ask so often at once; tell how often one was let by."""
    ends = await asyncio.gather(
        *(rate_limiter.admit("shop") for _ in range(times)), return_exceptions=True
    )
    refusals = [end for end in ends if isinstance(end, Problem)]
    assert len(refusals) + ends.count(None) == times
    assert all((each.type.status, each.headers["Retry-After"]) == (429, "4") for each in refusals)
    return ends.count(None)


async def test_without_a_quota_nobody_is_counted() -> None:
    """The default costs nothing."""
    taken = Taken(0)

    assert await let_by(RateLimiter(None, taken, lambda: 0.0), 1000) == 1000
    assert taken.asked == 0


async def test_no_more_are_let_by_than_granted() -> None:
    """However many come at once, a chunk is asked for once, and so is a refusal."""
    taken = Taken(3)

    assert await let_by(RateLimiter(Rate(10), taken, lambda: 0.0), 100) == 15
    assert taken.asked == 4


async def test_after_its_time_it_is_asked_again() -> None:
    """A refusal does not last for longer than it said."""
    now, taken = 0.0, Taken(0)
    rate_limiter = RateLimiter(Rate(10), taken, lambda: now)
    assert await let_by(rate_limiter, 5) == 0

    now, taken.chunks = 3.5, 1
    assert await let_by(rate_limiter, 5) == 5


async def test_a_store_that_is_away_lets_nobody_by() -> None:
    """Who cannot be counted is not let by."""

    class Away:
        async def take(self, client: str, quota: Rate) -> float:
            raise ConnectionError(client, quota)

    with pytest.raises(ConnectionError):
        await RateLimiter(Rate(10), Away(), lambda: 0.0).admit("shop")
