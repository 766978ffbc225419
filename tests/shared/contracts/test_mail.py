"""Recipients and times of a command to send a mail."""

import pytest

from shared.contracts.fields import MAX_RECIPIENTS
from shared.errors import Undecodable
from tests.shared.messages import body, send_email


def test_pending_recipients_go_before_the_headers() -> None:
    """A second attempt is for the recipients that the first left over, each once."""
    several = body(
        to=["ann@example.org", "Bob <bob@EXAMPLE.org>"],
        pending=["bob@example.org", "bob@Example.org"],
    )

    assert send_email(several).recipients == ("bob@example.org",)


@pytest.mark.parametrize(
    ("pending", "reason"),
    [
        (["eve@example.org"], "body: must have no pending recipients that are not in to, cc"),
        (["ann@example.org", "eve@example.org"], "body: must have no pending"),
        ([], "pending: "),
        ([f"a{number}@example.org" for number in range(MAX_RECIPIENTS + 1)], "pending: .*at most"),
    ],
    ids=["stranger", "one stranger", "nobody", "too many"],
)
def test_pending_recipients_are_some_of_the_header_s(pending: list[str], reason: str) -> None:
    """A publisher cannot mail to hundreds past the limit, or let a mail end without an outcome.

    Issue 10, A7.
    """
    with pytest.raises(Undecodable, match=reason):
        send_email(body(pending=pending))


@pytest.mark.parametrize(
    "zero", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59+00:00", "-62135596800"]
)
@pytest.mark.parametrize("field", ["created_at", "expires_at"])
def test_the_zero_time_of_a_language_is_no_time(field: str, zero: str) -> None:
    """The year 1, which Go writes for a time that is not set, counts as absent (issue 10, S6)."""
    assert getattr(send_email(body(**{field: zero})), field) is None


def test_there_is_a_limit_of_recipients() -> None:
    """To, Cc and Bcc together are no more than every server must accept."""
    many = [f"a{number}@example.org" for number in range(MAX_RECIPIENTS)]
    assert len(send_email(body(to=many)).recipients) == MAX_RECIPIENTS

    with pytest.raises(Undecodable, match="at most 100 recipients"):
        send_email(body(to=many, bcc="one@example.org"))
