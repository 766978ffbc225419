"""Challenges: whose they are, and when they are in their time."""

import pytest

from services.otp.challenge import STEP, Challenge, CodeScope

HOUR = 3_600_000  # milliseconds
MADE = 1_900_000_000_000
CHALLENGE = Challenge(
    id="c-1",
    scope=CodeScope("shop", "sign-in", "Anna@Example.com"),
    nonce=bytes(16),
    key_id="key",
    digits=6,
    created_at=MADE,
    expires_at=MADE + 600_000,
    mailed_at=MADE,
)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (MADE, True),
        (MADE + 599_999, True),
        (MADE + 600_000, False),
        (MADE + HOUR, False),
        (MADE - 1, True),
        (MADE - STEP, True),
        (MADE - STEP - 1, False),
        (MADE - HOUR, False),
    ],
)
def test_in_its_time(now: int, *, expected: bool) -> None:
    """It ends at its expiry; and what a clock put back has not yet made is dead, but for a step."""
    assert CHALLENGE.is_in_time(now) is expected


def test_a_recipient_has_one_spelling() -> None:
    """Mails and failures are counted for an address however it is written."""
    assert CHALLENGE.scope.recipient == "anna@example.com"
