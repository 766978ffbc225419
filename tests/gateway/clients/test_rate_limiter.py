"""The quota of a client's requests."""

import asyncio

import pytest

from services.gateway.api.problem import Problem
from services.gateway.clients.rate_limiter import QuotaStore, RateLimiter, header_fields
from shared.storage.database import Database
from shared.storage.rate import Rate
from tests.clock import Clock


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

    async def left(self, client: str, quota: Rate) -> int:
        """Return the number in the chunks that are left."""
        assert client == "shop"
        return self.chunks * quota.chunk


async def admitted(rate_limiter: RateLimiter, times: int) -> int:
    """Return how many of some requests at once were admitted."""
    ends = await asyncio.gather(
        *(rate_limiter.admit("shop") for _ in range(times)), return_exceptions=True
    )
    refusals = [end for end in ends if isinstance(end, Problem)]
    admissions = [end for end in ends if isinstance(end, dict)]
    assert len(refusals) + len(admissions) == times
    assert all((each.type.status, each.headers["Retry-After"]) == (429, "4") for each in refusals)
    return len(admissions)


async def test_without_a_quota_no_request_is_counted() -> None:
    """Without a quota all requests are admitted, and the store is not asked."""
    taken = Taken(0)

    assert await admitted(RateLimiter(None, taken, lambda: 0.0), 1000) == 1000
    assert taken.asked == 0


async def test_no_more_are_admitted_than_granted() -> None:
    """Requests at once share one call of the store for each chunk, and for a refusal."""
    taken = Taken(3)

    assert await admitted(RateLimiter(Rate(10), taken, lambda: 0.0), 100) == 15
    assert taken.asked == 4


async def test_after_its_time_it_is_asked_again() -> None:
    """After the seconds of a refusal the store is asked again."""
    now, taken = 0.0, Taken(0)
    rate_limiter = RateLimiter(Rate(10), taken, lambda: now)
    assert await admitted(rate_limiter, 5) == 0

    now, taken.chunks = 3.5, 1
    assert await admitted(rate_limiter, 5) == 5


async def test_a_store_that_is_away_admits_no_request() -> None:
    """A request that cannot be counted is not admitted."""

    class Away(Taken):
        async def take(self, client: str, count: int, quota: Rate) -> float:
            raise ConnectionError(client, count, quota)

    with pytest.raises(ConnectionError):
        await RateLimiter(Rate(10), Away(1), lambda: 0.0).admit("shop")


async def test_each_answer_says_how_many_requests_are_left() -> None:
    """The number goes down with each request to 0, and a refusal says when there are more."""
    rate_limiter = RateLimiter(Rate(10), Taken(2), lambda: 0.0)

    fields = [await rate_limiter.admit("shop") for _ in range(10)]
    with pytest.raises(Problem) as caught:
        await rate_limiter.admit("shop")

    assert {each["RateLimit-Policy"] for each in fields} == {'"default";q=10;w=1'}
    assert [each["RateLimit"] for each in fields] == [
        f'"default";r={left};t=1' for left in range(9, -1, -1)
    ]
    assert caught.value.headers == {
        "Retry-After": "4",
        "RateLimit-Policy": '"default";q=10;w=1',
        "RateLimit": '"default";r=0;t=4',
    }
    assert caught.value.violated_policies == ["default"]


@pytest.mark.parametrize(
    ("per_second", "policy"),
    [(100, "q=100;w=1"), (2.5, "q=2;w=1"), (1, "q=1;w=1"), (0.4, "q=1;w=3"), (0.01, "q=1;w=100")],
)
def test_a_policy_has_whole_numbers(per_second: float, policy: str) -> None:
    """A quota is stated in whole requests and seconds, never as more than it is."""
    fields = header_fields(Rate(per_second), 1_000, 0)

    requests, window = (int(part[2:]) for part in policy.split(";"))
    assert fields["RateLimit-Policy"] == f'"default";{policy}'
    assert fields["RateLimit"] == f'"default";r={requests};t={window}'
    assert requests / window <= per_second


async def test_a_quota_is_that_of_all_gateways_together(
    database: Database, replica: Database, clock: Clock
) -> None:
    """All gateways together admit no more than the quota in each second."""
    quota = Rate(10)
    stores = [QuotaStore(each, clock) for each in (database, replica)]
    taken = []
    for _ in range(4):
        waits = await asyncio.gather(*(stores[n % 2].take("shop", 5, quota) for n in range(6)))
        taken.append(5 * waits.count(0.0))
        assert all(wait <= 0.5 for wait in waits)
        clock.seconds += 1

    assert taken == [10, 10, 10, 10]


async def test_the_requests_left_are_those_of_all_gateways(
    database: Database, replica: Database, clock: Clock
) -> None:
    """The requests that are left are the same at every gateway."""
    quota = Rate(10)
    stores = [QuotaStore(each, clock) for each in (database, replica)]
    assert await stores[0].left("shop", quota) == 10

    await stores[0].take("shop", 3, quota)
    await stores[1].take("shop", 3, quota)

    assert [await each.left("shop", quota) for each in stores] == [4, 4]


async def test_a_quota_is_a_clients_own(database: Database) -> None:
    """A client beyond its quota gets the seconds to wait; other clients are unaffected."""
    store = QuotaStore(database, Clock())
    slow = Rate(0.01)

    assert await store.take("shop", 1, slow) == 0.0
    assert await store.take("shop", 1, slow) == 100.0
    assert await store.take("bank", 1, slow) == 0.0


async def test_an_unused_quota_is_not_saved_up(database: Database) -> None:
    """An unused quota is not saved up beyond one second."""
    clock, quota = Clock(), Rate(10)
    store = QuotaStore(database, clock)
    assert await store.take("shop", 5, quota) == 0.0
    clock.seconds += 36_000

    waits = [await store.take("shop", 5, quota) for _ in range(3)]

    assert [wait == 0.0 for wait in waits] == [True, True, False]
