"""Tests of the wait that a server asks for."""

import pytest

from services.sender.replies import reply as replies
from services.sender.replies.hint import LONGEST_SECONDS, wait_asked
from shared.contracts import Stage


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 5 minutes", 300),
        ("4.2.0 Greylisted for 300 seconds", 300),
        ("Retry after 300 seconds", 300),
        ("Service busy, retry in 90s", 90),
        ("Too fast; please wait 10 min before sending more", 600),
        ("Try again in 1 hour", 3600),
        ("4.7.0 Greylisting in action, please come back in 00:05:00", 300),
        ("4.7.1 Greylisted, come back in 04:59", 299),
        ("4.7.1 Deferred for 2h", 7200),
        ("Try again in 0 seconds", None),
        ("Try again in 7 days", None),
        ("Try again in 99999 hours", LONGEST_SECONDS),
        ("Try again later", None),
        ("4.7.28 At most 100 mails in 1 hour", None),
        ("Try again later. At most 100 mails in 1 hour", None),
        ("4.3.2 System busy, try 192.0.2.1 again", None),
    ],
)
def test_wishes(text: str, seconds: float | None) -> None:
    """A wish has a time not far behind it; a time alone is a limit or something else."""
    assert wait_asked(replies.heard(Stage.RCPT, 451, text)) == seconds


def test_only_temporary() -> None:
    """What was accepted, or refused for good, asks for nothing; nor does a lost connection."""
    text = "Try again in 5 minutes"

    assert wait_asked(replies.heard(Stage.DOT, 250, text)) is None
    assert wait_asked(replies.heard(Stage.RCPT, 550, text)) is None
    assert wait_asked(replies.missing(Stage.DOT, text)) is None
