"""The consequences of a try."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhooks.attempts import (
    MAX_DELAY_SECONDS,
    RETRY_SPAN,
    Next,
    State,
    after,
    delay,
    is_success,
)

NOW = timedelta(0)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_ends_it(status: int) -> None:
    """Any 2xx is one."""
    assert is_success(status)
    assert after(status, 1, NOW, 0.5) == Next(State.DELIVERED)


@pytest.mark.parametrize("status", [None, 100, 301, 307, 400, 401, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int | None) -> None:
    """A receiver that refuses today may be mended tomorrow."""
    assert not is_success(status)
    assert after(status, 1, NOW, 0.5) == Next(State.WAITING, 5.0)


def test_410_ends_the_endpoint() -> None:
    """The event is kept."""
    assert after(410, 1, NOW, 0.5) == Next(State.PARKED, is_gone=True)


def test_an_event_is_tried_for_three_days() -> None:
    """It then has failed."""
    assert after(500, 100, RETRY_SPAN - timedelta(seconds=1), 0.5).state is State.WAITING
    assert after(500, 100, RETRY_SPAN, 0.5) == Next(State.FAILED)


def test_a_test_is_tried_once() -> None:
    """Also one that gets a 410 changes nothing at the endpoint."""
    assert after(500, 1, NOW, 0.5, once=True) == Next(State.FAILED)
    assert after(410, 1, NOW, 0.5, once=True) == Next(State.FAILED)


@pytest.mark.parametrize(
    ("asked", "seconds"), [(1, 5.0), (600, 600.0), (1e9, MAX_DELAY_SECONDS), (-1, 5.0)]
)
def test_a_receiver_may_ask_for_more_time(asked: float, seconds: float) -> None:
    """Not for less, and not for days."""
    assert after(429, 1, NOW, 0.5, retry_after=asked).delay_seconds == seconds


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_a_delay_has_bounds(tries: int, jitter: float) -> None:
    """After any number of tries it is from 4 s to 36 minutes."""
    assert 4.0 <= delay(tries, jitter) <= MAX_DELAY_SECONDS * 1.2
