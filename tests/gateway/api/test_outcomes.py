"""Collecting the outcomes of one message."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.api import outcomes
from services.gateway.api.outcomes import Outcomes
from shared.contracts import (
    CONTRACTS,
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailFailed,
    EmailSuppressed,
    EmailUncertain,
    Outcome,
    Reply,
    ReplyClass,
    Stage,
    SuppressionOrigin,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def fields(recipient: str, attempt: int = 1, email_id: str = "m1") -> dict[str, Any]:
    """Return the fields that all outcomes have."""
    return {
        "id": f"e-{attempt}",
        "at": NOW,
        "email_id": email_id,
        "category": Category.BULK,
        "recipient": recipient,
        "attempt": attempt,
    }


def test_it_is_complete_when_every_recipient_has_a_final_outcome() -> None:
    """A deferral, and an uncertain outcome that is tried again, are not final."""
    found = Outcomes("m1", ["a@x.example", "b@x.example"])

    found.add(EmailDeferred(**fields("a@x.example"), retry_after=5))
    found.add(EmailUncertain(**fields("a@x.example"), retry_after=5))
    found.add(EmailDelivered(**fields("b@x.example")))
    assert len(found.known) == 1

    found.add(EmailDelivered(**fields("a@x.example", attempt=2)))
    assert found.complete
    assert [(each.recipient, each.attempt) for each in found.known] == [
        ("a@x.example", 2),
        ("b@x.example", 1),
    ]


def test_the_first_final_outcome_stands() -> None:
    """A later event for a recipient does not change its outcome."""
    found = Outcomes("m1", ["a@x.example"])

    found.add(EmailUncertain(**fields("a@x.example"), retry_after=None))
    found.add(EmailDelivered(**fields("a@x.example", attempt=2)))

    assert [each.outcome for each in found.known] == ["uncertain"]


def test_events_of_others_are_ignored() -> None:
    """An event of another message or another recipient does not count."""
    found = Outcomes("m1", ["a@x.example"])

    found.add(EmailDelivered(**fields("a@x.example", email_id="m2")))
    found.add(EmailDelivered(**fields("c@x.example")))

    assert not found.complete
    assert not found.known


def test_an_outcome_has_the_reply_of_the_server() -> None:
    """A bounce has the server's reply, and a failure its reason."""
    reply = Reply(stage=Stage.RCPT, code=550, enhanced="5.1.1", text="no such user")
    found = Outcomes("m1", ["a@x.example", "b@x.example"])

    found.add(
        EmailBounced(**fields("a@x.example"), reply=reply, reply_class=ReplyClass.MAILBOX_UNKNOWN)
    )
    found.add(EmailFailed(**fields("b@x.example"), reason="cannot be composed"))

    assert [each.model_dump(mode="json", exclude_none=True) for each in found.known] == [
        {
            "recipient": "a@x.example",
            "outcome": "bounced",
            "attempt": 1,
            "reply": {
                "stage": "rcpt",
                "code": 550,
                "enhanced": "5.1.1",
                "text": "no such user",
            },
            "reply_class": "mailbox_unknown",
        },
        {
            "recipient": "b@x.example",
            "outcome": "failed",
            "attempt": 1,
            "reason": "cannot be composed",
        },
    ]


@pytest.mark.parametrize(
    ("reason", "words"),
    [("mailbox unknown, 550 5.1.1", "bounce: mailbox unknown, 550 5.1.1"), ("", "bounce")],
)
def test_a_suppressed_address_has_the_reason_of_its_record(reason: str, words: str) -> None:
    """A client that waits learns why the mail was not sent, as from GET of the message."""
    event = EmailSuppressed(**fields("a@x.example"), origin=SuppressionOrigin.BOUNCE, reason=reason)
    found = Outcomes("m1", ["a@x.example"])

    found.add(event)

    assert [each.reason for each in found.known] == [words]


def test_every_outcome_that_can_be_final_has_a_name() -> None:
    """Each contract of a final outcome has a name; without it clients would wait in vain."""
    contracts = {each for each in CONTRACTS if issubclass(each, Outcome)}

    assert contracts - {EmailDeferred} == set(outcomes.NAMES)
