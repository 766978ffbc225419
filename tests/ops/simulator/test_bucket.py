"""The token bucket."""

from ops.simulator.bucket import TokenBucket
from tests.clock import Watch


def test_burst(clock: Watch) -> None:
    """A full bucket gives its burst, then nothing."""
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
