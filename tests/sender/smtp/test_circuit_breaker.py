"""Tests of when a relay that does not serve us is tried again."""

import pytest

from services.sender.smtp.backoff import Backoff
from services.sender.smtp.circuit_breaker import Rest

MIDDLE = 0.5  # the chance that spreads nothing


def a_rest() -> Rest:
    """Give the memory of a relay that rests for 5, 10, 20 and at most 30 seconds."""
    return Rest(Backoff(5, 30))


def failed(rest: Rest, now: float, times: int) -> float:
    """Let a relay fail again after each rest, and give when the last one ends."""
    for _ in range(times):
        now += rest.wait(now)
        rest.begin()
        rest.failed(now, MIDDLE)
        rest.end()
    return now + rest.wait(now)


def test_fresh() -> None:
    """A relay of which nothing is known is tried at once."""
    assert a_rest().wait(0) == 0


@pytest.mark.parametrize(("times", "end"), [(1, 5), (2, 15), (3, 35), (4, 65), (5, 95)])
def test_doubling(times: int, end: float) -> None:
    """Each rest is twice as long as the last one, up to the longest."""
    assert failed(a_rest(), 0, times) == end


def test_never_too_long() -> None:
    """A relay that is away for ever is tried for ever, once in the longest rest."""
    rest = a_rest()
    before = failed(rest, 0, 2000)

    assert failed(rest, before, 1) == before + 30


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 3.75), (0.999999, 6.25)])
def test_spread(chance: float, seconds: float) -> None:
    """Replicas that failed at once do not come back at once."""
    rest = a_rest()
    rest.failed(100, chance)

    assert rest.wait(100) == pytest.approx(seconds, abs=0.001)


def test_side_by_side() -> None:
    """Attempts that fail at the same time are one failure."""
    rest = a_rest()

    assert [rest.failed(1, MIDDLE) for _ in range(3)] == [True, False, False]
    assert rest.wait(1) == 5


def test_half_open() -> None:
    """After the rest one attempt is let through; the others wait until it has ended."""
    rest = a_rest()
    rest.failed(0, MIDDLE)
    rest.begin()

    assert rest.wait(5) == 5
    rest.end()
    assert rest.wait(5) == 0


def test_served_again() -> None:
    """One success, and all is forgotten."""
    rest = a_rest()
    failed(rest, 0, 3)
    rest.succeeded()
    rest.begin()

    assert rest.wait(0) == 0
    assert failed(rest, 0, 1) == 5


def test_doubts() -> None:
    """A refusal that may be the mail's own fault counts if the next mail is refused too."""
    rest = a_rest()

    assert not rest.doubted(0, MIDDLE)
    rest.succeeded()
    assert not rest.doubted(0, MIDDLE)
    assert rest.doubted(0, MIDDLE)
    assert rest.wait(0) == 5
