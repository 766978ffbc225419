"""The delays: how long, how often, and that the ladder keeps the wish on average."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.retry import DELAYS, MAX_ATTEMPTS, SPREAD, WAIT_GROWTH, choose_delay, wait_after

TURNS = [(number + 0.5) / 1000 for number in range(1000)]
UNIFORM = st.floats(0, 1, exclude_max=True)
SHORTEST, LONGEST = DELAYS[0].seconds, DELAYS[-1].seconds
INSIDE = st.floats(SHORTEST / (1 - SPREAD), LONGEST / (1 + SPREAD))  # whatever the spread


def mean(seconds: float, chance: float) -> float:
    """Return the mean delay over all turns."""
    return sum(choose_delay(seconds, chance, turn).seconds for turn in TURNS) / len(TURNS)


def test_the_ladder_rises() -> None:
    """Each rung is longer than the one before, and each has a name of its own."""
    assert all(lower.seconds < upper.seconds for lower, upper in pairwise(DELAYS))
    assert len({delay.name for delay in DELAYS}) == len(DELAYS)


def test_waits_grow_until_the_longest_rung() -> None:
    """Quick for what passes quickly, patient with what does not; some 14 hours in all."""
    waits = [wait_after(attempt) for attempt in range(1, MAX_ATTEMPTS)]

    assert waits == [5, 20, 80, 320, 1280, 5120, 14400, 14400, 14400]
    assert sum(wait or 0 for wait in waits) / 3600 == pytest.approx(14, abs=0.2)


@given(attempt=st.integers(MAX_ATTEMPTS, 10**9), wish=st.none() | st.floats(0, 1e6))
def test_attempts_end(attempt: int, wish: float | None) -> None:
    """No wish keeps a delivery alive past the last attempt."""
    assert wait_after(attempt, wish) is None


@given(attempt=st.integers(1, MAX_ATTEMPTS - 1), wish=st.floats(0, 1e6))
def test_a_wish_goes_before_the_schedule(attempt: int, wish: float) -> None:
    """A handler that knows how long it takes is listened to."""
    assert wait_after(attempt, wish) == wish


@given(attempt=st.integers(1, MAX_ATTEMPTS - 2))
def test_no_wait_grows_faster_than_told(attempt: int) -> None:
    """The schedule is monotonic."""
    shorter, longer = wait_after(attempt), wait_after(attempt + 1)
    assert shorter is not None
    assert longer is not None

    assert shorter <= longer <= WAIT_GROWTH * shorter


@given(seconds=INSIDE, chance=UNIFORM)
def test_the_mean_of_a_wait_is_the_spread_wish(seconds: float, chance: float) -> None:
    """Although there are seven rungs only, a wait is on average as long as it should be."""
    wanted = seconds * (1 + SPREAD * (2 * chance - 1))

    assert mean(seconds, chance) == pytest.approx(wanted, rel=0.01)


@given(seconds=INSIDE)
def test_the_spread_cancels_out(seconds: float) -> None:
    """A chance and its opposite average to the wish itself."""
    both = [mean(seconds, chance) for chance in (0.0, 0.25, 0.75, 1.0)]

    assert sum(both) / 4 == pytest.approx(seconds, rel=0.01)


@given(seconds=INSIDE, chance=UNIFORM, turn=UNIFORM)
def test_a_step_is_a_neighbour_of_the_wish(seconds: float, chance: float, turn: float) -> None:
    """The jitter never takes a rung that is farther off than the next one."""
    at_least = max(delay.seconds for delay in DELAYS if delay.seconds <= seconds * (1 - SPREAD))
    at_most = min(delay.seconds for delay in DELAYS if delay.seconds >= seconds * (1 + SPREAD))

    assert at_least <= choose_delay(seconds, chance, turn).seconds <= at_most


@pytest.mark.parametrize("delay", DELAYS, ids=lambda delay: delay.name)
def test_a_rung_asked_for_exactly_is_taken(delay: object) -> None:
    """Without spread a wish that is a delay is met exactly."""
    assert {choose_delay(getattr(delay, "seconds", 0), 0.5, turn) for turn in TURNS} == {delay}


def test_equal_wishes_do_not_come_back_together() -> None:
    """Messages that failed together are spread over neighbouring delays."""
    steps = {choose_delay(30, chance, turn).name for chance in TURNS[::50] for turn in TURNS[::50]}

    assert steps == {"delay.15s", "delay.1m"}


@given(
    seconds=st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 10**6),
    chance=UNIFORM,
    turn=UNIFORM,
)
def test_every_wish_has_a_rung(seconds: float, chance: float, turn: float) -> None:
    """Outside the ladder it is the first or the last rung; nothing is sent to no queue."""
    delay = choose_delay(seconds, chance, turn)

    assert delay in DELAYS
    if seconds < SHORTEST / (1 + SPREAD):
        assert delay is DELAYS[0]
    if seconds > LONGEST / (1 - SPREAD) or math.isnan(seconds):
        assert delay is DELAYS[-1]
