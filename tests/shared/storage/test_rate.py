"""Rates, and the tokens that one process has reserved."""

import pytest

from shared.storage.rate import CHUNK_SECONDS, MAX_KEYS, LocalRateLimiter, Rate, ReservedTokens
from tests.clock import Watch


@pytest.mark.parametrize(
    ("per_second", "burst", "chunk"), [(100, 100, 50), (2.5, 3, 1), (1, 1, 1), (0.01, 1, 1)]
)
def test_burst_and_chunk(per_second: float, burst: int, chunk: int) -> None:
    """A burst is the number of one second, and a chunk is no larger."""
    rate = Rate(per_second)

    assert (rate.burst, rate.chunk) == (burst, chunk)


def test_cost() -> None:
    """The cost of mails is their time at the rate."""
    assert Rate(100).microseconds(50) == 500_000
    assert Rate(0.01).microseconds(1) == 100_000_000


def test_tokens_are_used_up() -> None:
    """No more tokens are used than were granted."""
    reserved = ReservedTokens()

    assert not reserved.use(1, 0)
    reserved.granted(3, 0)
    assert [reserved.use(2, 0), reserved.use(2, 0), reserved.use(1, 0)] == [True, False, True]


def test_tokens_expire() -> None:
    """Reserved tokens expire."""
    reserved = ReservedTokens()
    reserved.granted(3, 0)

    assert not reserved.use(1, 1.0)


def test_wait() -> None:
    """After a refusal there is a time to wait."""
    reserved = ReservedTokens()
    reserved.refused(5, 100)

    assert (reserved.wait(100), reserved.wait(104), reserved.wait(106)) == (5, 1, 0)


@pytest.mark.parametrize(
    ("per_second", "chunk", "cost", "burst"),
    [
        (1000, 500, 500_000, 1_000_000),
        (3, 1, 333_333, 1_000_000),
        (1, 1, 1_000_000, 1_000_000),
        (0.5, 1, 2_000_000, 2_000_000),
    ],
)
def test_a_rate_has_room_for_a_chunk(per_second: float, chunk: int, cost: int, burst: int) -> None:
    """A burst is the number of one second, and at least one."""
    rate = Rate(per_second)
    of_chunk, of_burst = rate.microseconds(rate.chunk), rate.microseconds(rate.burst)

    assert (rate.chunk, of_chunk, of_burst) == (chunk, cost, burst)
    assert of_chunk <= of_burst


def test_reserved_tokens_are_used_up() -> None:
    """Tokens are used up to the number granted, before they expire."""
    reserved = ReservedTokens()
    assert not reserved.use(1, 0.0)

    reserved.granted(2, 0.0)
    assert reserved.left(0.1) == 2
    assert [reserved.use(1, 0.1) for _ in range(3)] == [True, True, False]

    reserved.granted(2, 1.0)
    assert reserved.use(1, 1.0)
    assert reserved.left(1.0) == 1
    assert reserved.left(1.0 + 2 * CHUNK_SECONDS) == 0
    assert not reserved.use(1, 1.0 + 2 * CHUNK_SECONDS)


def test_after_a_refusal_there_is_no_use_in_asking() -> None:
    """A refused caller that asks again costs no query."""
    reserved = ReservedTokens()

    reserved.refused(2.0, 10.0)

    assert [reserved.wait(now) for now in (10.0, 11.5, 12.0, 13.0)] == [2.0, 0.5, 0.0, 0.0]


def test_each_key_has_a_quota_in_one_process() -> None:
    """A key is admitted so often at once, then as the time allows, whatever other keys do."""
    watch = Watch()
    limiter = LocalRateLimiter(3, 60.0, watch)
    waits = [limiter.wait("ann") for _ in range(4)]
    other = limiter.wait("bob")
    watch.now += 20.0
    again = [limiter.wait("ann") for _ in range(2)]
    watch.now += 3600.0
    rested = [limiter.wait("ann") for _ in range(4)]

    assert waits == rested == [0.0, 0.0, 0.0, pytest.approx(20.0)]
    assert other == 0.0
    assert again == [0.0, pytest.approx(20.0)]


def test_a_process_remembers_so_many_keys() -> None:
    """However many keys come, the one that was not used for longest makes room."""
    limiter = LocalRateLimiter(1, 60.0, Watch())
    limiter.wait("ann")
    for number in range(MAX_KEYS - 1):
        limiter.wait(number)
    known = limiter.wait("ann")  # the one used last now
    limiter.wait("bob")

    assert known > 0.0
    assert limiter.wait("ann") > 0.0
    assert limiter.wait(0) == 0.0
