"""The decisions of the simulated server: bucket, greylist, queue."""

import asyncio

from ops.simulator.policy import REMEMBERED, Greylist, ServiceQueue, TokenBucket
from tests.clock import Watch


def test_burst(clock: Watch) -> None:
    """A full bucket has its burst of tokens, then none."""
    bucket = TokenBucket(per_second=1, burst=3, clock=clock)

    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_refill(clock: Watch) -> None:
    """Tokens come back with time, up to the burst and not beyond."""
    bucket = TokenBucket(per_second=2, burst=2, clock=clock)
    bucket.take()
    bucket.take()

    clock.now += 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.now += 3600
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_first_try(clock: Watch) -> None:
    """A pair is admitted once the time since its first try, not its last, is over."""
    greylist = Greylist(clock)

    assert not greylist.admits("a@x", "b@x", 10)
    clock.now += 9
    assert not greylist.admits("a@x", "B@X", 10)
    clock.now += 1
    assert greylist.admits("a@x", "b@x", 10)


def test_pairs(clock: Watch) -> None:
    """A second sender to the same recipient is a new pair."""
    greylist = Greylist(clock)
    greylist.admits("a@x", "b@x", 10)
    clock.now += 10

    assert not greylist.admits("c@x", "b@x", 10)


def test_bounded(clock: Watch) -> None:
    """The greylist has a limited number of pairs, and drops the oldest."""
    greylist = Greylist(clock)
    greylist.admits("a@x", "oldest@x", 10)
    for number in range(REMEMBERED):
        greylist.admits("a@x", f"{number}@x", 10)
    clock.now += 10

    assert not greylist.admits("a@x", "oldest@x", 10)
    assert greylist.admits("a@x", f"{REMEMBERED - 1}@x", 10)


async def test_first_come() -> None:
    """Mails are served in the order of their arrival."""
    desk = ServiceQueue(places=1, seconds=0.002)
    served: list[int] = []

    async def mail(number: int) -> None:
        await desk.serve()
        served.append(number)

    await asyncio.gather(*(mail(number) for number in range(10)))

    assert served == list(range(10))


async def test_unlimited() -> None:
    """Without a limit no mail queues."""
    desk = ServiceQueue(places=None, seconds=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()

    await asyncio.gather(*(desk.serve() for _ in range(1000)))

    assert 0.099 <= loop.time() - began < 100  # as long as 1000 in turn would take
