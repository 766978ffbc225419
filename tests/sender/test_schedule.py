"""Tests of when a mail is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from services.sender.schedule import Schedule

OTP = Schedule(first=5, longest=60, give_up=600, retries_uncertain=True)


def test_doubles() -> None:
    """Each wait is twice the one before, up to the longest."""
    waits = [OTP.wait_after(attempt, age=0, left=None) for attempt in range(1, 8)]

    assert waits == [5, 10, 20, 40, 60, 60, 60]


def test_gives_up() -> None:
    """A mail is given up when the next attempt would come after its time."""
    assert OTP.wait_after(9, age=540, left=None) == 60
    assert OTP.wait_after(9, age=541, left=None) is None


def test_expiry() -> None:
    """An attempt that would come when the mail has expired is not waited for."""
    assert OTP.wait_after(1, age=0, left=5.1) == 5
    assert OTP.wait_after(1, age=0, left=5) is None


@given(attempt=st.integers(1), age=st.floats(0, 1e12))
def test_any_attempt(attempt: int, age: float) -> None:
    """No attempt number, however absurd, breaks the sum."""
    wait = OTP.wait_after(attempt, age, left=None)

    assert wait is None or OTP.first <= wait <= OTP.longest
