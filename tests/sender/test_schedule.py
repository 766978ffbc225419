"""Tests of when a mail is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from services.sender.schedule import AttemptHistory, RetrySchedule
from shared.contracts.fields import MAX_ATTEMPTS

OTP = RetrySchedule(first=5, longest=60, give_up=600, retries_uncertain=True)


def test_doubles() -> None:
    """Each wait is twice the one before, up to the longest."""
    waits = [OTP.wait_after(AttemptHistory(attempt, age=0)) for attempt in range(1, 8)]

    assert waits == [5, 10, 20, 40, 60, 60, 60]


def test_gives_up() -> None:
    """A mail is given up when the next attempt would come after its time."""
    assert OTP.wait_after(AttemptHistory(9, age=540)) == 60
    assert OTP.wait_after(AttemptHistory(9, age=541)) is None


def test_expiry() -> None:
    """An attempt that would come after the mail's expiry is not made."""
    assert OTP.wait_after(AttemptHistory(1, age=0, left=5.1)) == 5
    assert OTP.wait_after(AttemptHistory(1, age=0, left=5)) is None


def test_retries() -> None:
    """A command's limit of further attempts holds, with any time left."""
    assert OTP.wait_after(AttemptHistory(1, age=0, retries=0)) is None
    assert OTP.wait_after(AttemptHistory(2, age=0, retries=2)) == 10
    assert OTP.wait_after(AttemptHistory(3, age=0, retries=2)) is None


def test_the_contract_s_own_end() -> None:
    """The last attempt that the contract allows is not deferred."""
    patient = RetrySchedule(first=1, longest=1, give_up=1e9, retries_uncertain=True)

    assert patient.wait_after(AttemptHistory(MAX_ATTEMPTS - 1, age=0)) == 1
    assert patient.wait_after(AttemptHistory(MAX_ATTEMPTS, age=0)) is None


def test_asked() -> None:
    """The server's wait takes precedence, longer by the spread of the delays."""
    assert OTP.wait_after(AttemptHistory(1, age=0), requested=300) == 375


def test_asked_too_much() -> None:
    """A requested wait that the mail has no time for is ignored."""
    assert OTP.wait_after(AttemptHistory(1, age=0), requested=3600) == 5
    assert OTP.wait_after(AttemptHistory(1, age=0, left=200), requested=300) == 5


@given(attempt=st.integers(1), age=st.floats(0, 1e12))
def test_any_attempt(attempt: int, age: float) -> None:
    """A very large attempt number does not overflow."""
    wait = OTP.wait_after(AttemptHistory(attempt, age))

    assert wait is None or OTP.first <= wait <= OTP.longest
