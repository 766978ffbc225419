"""The delays: their length, their number, and that their mean is the wait that was requested."""

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


def test_delays_rise() -> None:
    """Each delay is longer than the one before, and has a name of its own."""
    assert all(lower.seconds < upper.seconds for lower, upper in pairwise(DELAYS))
    assert len({delay.name for delay in DELAYS}) == len(DELAYS)


def test_waits_grow_to_the_longest_delay() -> None:
    """The waits grow from 5 seconds to 4 hours; their sum is some 14 hours."""
    waits = [wait_after(attempt) for attempt in range(1, MAX_ATTEMPTS)]

    assert waits == [5, 20, 80, 320, 1280, 5120, 14400, 14400, 14400]
    assert sum(wait or 0 for wait in waits) / 3600 == pytest.approx(14, abs=0.2)


@given(attempt=st.integers(MAX_ATTEMPTS, 10**9), requested=st.none() | st.floats(0, 1e6))
def test_attempts_end(attempt: int, requested: float | None) -> None:
    """After the last attempt there is no wait, whatever was requested."""
    assert wait_after(attempt, requested) is None


@given(attempt=st.integers(1, MAX_ATTEMPTS - 1), requested=st.floats(0, 1e6))
def test_a_requested_wait_goes_before_the_schedule(attempt: int, requested: float) -> None:
    """A wait that the handler requests is used as it is."""
    assert wait_after(attempt, requested) == requested


@given(attempt=st.integers(1, MAX_ATTEMPTS - 2))
def test_no_wait_grows_faster_than_wait_growth(attempt: int) -> None:
    """The schedule is monotonic."""
    shorter, longer = wait_after(attempt), wait_after(attempt + 1)
    assert shorter is not None
    assert longer is not None

    assert shorter <= longer <= WAIT_GROWTH * shorter


@given(seconds=INSIDE, chance=UNIFORM)
def test_the_mean_of_the_delays_is_the_wait(seconds: float, chance: float) -> None:
    """The mean of the chosen delays is the spread wait, although there are only seven delays."""
    wanted = seconds * (1 + SPREAD * (2 * chance - 1))

    assert mean(seconds, chance) == pytest.approx(wanted, rel=0.01)


@given(seconds=INSIDE)
def test_the_spread_cancels_out(seconds: float) -> None:
    """The mean over all chances is the wait without spread."""
    both = [mean(seconds, chance) for chance in (0.0, 0.25, 0.75, 1.0)]

    assert sum(both) / 4 == pytest.approx(seconds, rel=0.01)


@given(seconds=INSIDE, chance=UNIFORM, turn=UNIFORM)
def test_a_chosen_delay_is_next_to_the_wait(seconds: float, chance: float, turn: float) -> None:
    """The jitter never chooses a delay beyond the two around the wait."""
    at_least = max(delay.seconds for delay in DELAYS if delay.seconds <= seconds * (1 - SPREAD))
    at_most = min(delay.seconds for delay in DELAYS if delay.seconds >= seconds * (1 + SPREAD))

    assert at_least <= choose_delay(seconds, chance, turn).seconds <= at_most


@pytest.mark.parametrize("delay", DELAYS, ids=lambda delay: delay.name)
def test_a_wait_that_is_a_delay_is_met(delay: object) -> None:
    """Without spread a wait of the length of a delay gets that delay."""
    assert {choose_delay(getattr(delay, "seconds", 0), 0.5, turn) for turn in TURNS} == {delay}


def test_equal_waits_are_spread() -> None:
    """Messages that failed together are spread over neighbouring delays."""
    names = {choose_delay(30, chance, turn).name for chance in TURNS[::50] for turn in TURNS[::50]}

    assert names == {"delay.15s", "delay.1m"}


@given(
    seconds=st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 10**6),
    chance=UNIFORM,
    turn=UNIFORM,
)
def test_every_wait_has_a_delay(seconds: float, chance: float, turn: float) -> None:
    """A wait outside all delays gets the shortest or the longest one."""
    delay = choose_delay(seconds, chance, turn)

    assert delay in DELAYS
    if seconds < SHORTEST / (1 + SPREAD):
        assert delay is DELAYS[0]
    if seconds > LONGEST / (1 - SPREAD) or math.isnan(seconds):
        assert delay is DELAYS[-1]
