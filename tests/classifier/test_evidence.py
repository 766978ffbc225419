"""The rule, and what counts as evidence."""

from datetime import UTC, datetime

import pytest

from services.classifier.evidence import BOUNCE, DELIVERY, Evidence, Rule, observe
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDelivered,
    FeedbackBounced,
    FeedbackDelivered,
    ReplyClass,
    Verdict,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)


def bounced(reply_class: ReplyClass, recipient: str = "a@example.com") -> EmailBounced:
    """Give a bounce of our own."""
    return EmailBounced(
        id="e-1",
        at=AT,
        email_id="m-1",
        category=Category.BULK,
        recipient=recipient,
        attempt=1,
        reply_class=reply_class,
    )


def delivered(recipient: str) -> EmailDelivered:
    """Give a delivery of our own."""
    return EmailDelivered(
        id="e-1", at=AT, email_id="m-1", category=Category.OTP, recipient=recipient, attempt=1
    )


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(), Verdict.UNKNOWN),
        (Evidence(delivered=999), Verdict.UNKNOWN),
        (Evidence(delivered=1000), Verdict.UNKNOWN),
        (Evidence(delivered=1001), Verdict.CATCH_ALL),
        (Evidence(delivered=10_000_000_000), Verdict.CATCH_ALL),
        (Evidence(bounced=1), Verdict.NOT_CATCH_ALL),
        (Evidence(delivered=1001, bounced=1), Verdict.NOT_CATCH_ALL),
    ],
)
def test_the_rule(evidence: Evidence, verdict: Verdict) -> None:
    """Only more than 1000 deliveries and no bounce are catch-all; a bounce is the end of it."""
    assert Rule().verdict(evidence) == verdict


def test_the_threshold_can_be_set() -> None:
    """The number that must be exceeded is a setting."""
    assert Rule(2).verdict(Evidence(delivered=2)) == Verdict.UNKNOWN
    assert Rule(2).verdict(Evidence(delivered=3)) == Verdict.CATCH_ALL


def test_a_change_is_told_once() -> None:
    """Only evidence that turns the verdict is a change."""
    rule = Rule(2)

    assert rule.change(Evidence(2), Evidence(3)) == Verdict.CATCH_ALL
    assert rule.change(Evidence(3), Evidence(4)) is None
    assert rule.change(Evidence(4), Evidence(4, 1)) == Verdict.NOT_CATCH_ALL
    assert rule.change(Evidence(4, 1), Evidence(4, 2)) is None


def test_our_own_delivery_counts() -> None:
    """A delivery counts for the domain of its recipient."""
    observation = observe(delivered("a@example.com"))

    assert observation
    assert observation.domain == "example.com"
    assert observation.evidence == DELIVERY
    assert observation.at == AT


@pytest.mark.parametrize("reply_class", ReplyClass)
def test_of_our_own_bounces_one_counts(reply_class: ReplyClass) -> None:
    """Only a bounce that says "no such mailbox" is evidence."""
    observation = observe(bounced(reply_class))

    if reply_class == ReplyClass.MAILBOX_UNKNOWN:
        assert observation
        assert observation.evidence == BOUNCE
    else:
        assert observation is None


def test_feedback_counts_as_it_is_called() -> None:
    """What others report counts without a look at reasons."""
    delivery = observe(FeedbackDelivered(id="e-1", at=AT, domain="example.com"))
    bounce = observe(FeedbackBounced(id="e-1", at=AT, domain="example.com"))

    assert delivery
    assert delivery.evidence == DELIVERY
    assert bounce
    assert bounce.evidence == BOUNCE


@pytest.mark.parametrize(
    ("recipient", "domain"),
    [
        ("a@EXAMPLE.com", "example.com"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@mail.example.com", "mail.example.com"),
        ("a@example.com.", "example.com"),
    ],
)
def test_domains_are_canonical(recipient: str, domain: str) -> None:
    """However a recipient was spelled, its domain is lower-case A-labels; sub-domains are own."""
    observation = observe(delivered(recipient))

    assert observation
    assert observation.domain == domain


@pytest.mark.parametrize("recipient", ["nobody", "a@[192.0.2.1]", "a@", "a@localhost"])
def test_a_recipient_without_a_domain(recipient: str) -> None:
    """What has no domain is an error, not evidence on something else."""
    with pytest.raises(ValueError, match="domain"):
        observe(delivered(recipient))
