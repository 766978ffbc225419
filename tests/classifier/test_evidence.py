"""What counts as evidence, and when two events are one."""

from datetime import UTC, datetime, timedelta

import pytest

from services.classifier.evidence import observe
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    ReplyClass,
    Sighting,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)
SIGHTING = Sighting(id="s-1", domain="example.com", kind=Kind.DELIVERED, at=AT)


def bounced(reply_class: ReplyClass) -> EmailBounced:
    """Give a bounce of our own."""
    return EmailBounced(
        id="e-1",
        at=AT,
        email_id="m-1",
        category=Category.BULK,
        recipient="a@example.com",
        attempt=1,
        reply_class=reply_class,
    )


def delivered(recipient: str = "a@example.com") -> EmailDelivered:
    """Give a delivery of our own."""
    return EmailDelivered(
        id="e-1", at=AT, email_id="m-1", category=Category.OTP, recipient=recipient, attempt=1
    )


def reported(*sightings: Sighting, client: str | None = "shop") -> FeedbackReported:
    """Give a report."""
    return FeedbackReported(id="r-1", at=AT, client=client, sightings=sightings)


def key_of(sighting: Sighting, client: str | None = "shop") -> str:
    """Give the key of one sighting."""
    (observation,) = observe(reported(sighting, client=client))
    return observation.key


def test_our_own_delivery_counts() -> None:
    """A delivery counts for the domain of its recipient."""
    (observation,) = observe(delivered())

    assert (observation.domain, observation.said) == ("example.com", "delivered")
    assert observation.at == AT.timestamp() * 1000
    assert observation.recipient == "a@example.com"


@pytest.mark.parametrize("reply_class", ReplyClass)
def test_of_our_own_bounces_one_counts(reply_class: ReplyClass) -> None:
    """Only a bounce that says "no such mailbox" is one; others are kept apart by their class."""
    (observation,) = observe(bounced(reply_class))

    unknown = reply_class == ReplyClass.MAILBOX_UNKNOWN
    assert observation.said == ("bounced" if unknown else reply_class)


def test_our_own_events_are_of_one_mail() -> None:
    """A late bounce finds its delivery by mail and recipient."""
    late, delivery = bounced(ReplyClass.POLICY), delivered()

    assert next(observe(late)).mail == next(observe(delivery)).mail
    assert next(observe(delivered("b@example.com"))).mail != next(observe(delivery)).mail


@pytest.mark.parametrize(
    "other",
    [
        delivered("b@example.com"),
        delivered("a@example.net"),
        bounced(ReplyClass.POLICY),
        bounced(ReplyClass.MAILBOX_UNKNOWN),
    ],
    ids=["recipient", "domain", "refused", "bounced"],
)
def test_two_events_with_one_id_are_two(other: EmailDelivered | EmailBounced) -> None:
    """If somebody gives an id twice, which of the two came first decides nothing."""
    assert next(observe(other)).key != next(observe(delivered())).key
    later = other.model_copy(update={"at": AT + timedelta(1)})
    assert next(observe(later)).key == next(observe(other)).key


def test_feedback_counts_as_it_is_called() -> None:
    """What others report counts without a look at reasons, each sighting for itself."""
    bounce = SIGHTING.model_copy(update={"id": "s-2", "kind": Kind.BOUNCED})

    assert [each.said for each in observe(reported(SIGHTING, bounce))] == ["delivered", "bounced"]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "s-2"},
        {"domain": "example.org"},
        {"kind": Kind.BOUNCED},
        {"recipient": "a@example.com"},
        {"email_id": "m-1"},
    ],
    ids=str,
)
def test_which_event_it_is(change: dict[str, str]) -> None:
    """A sighting that differs is another event, so that none of two is lost by which came first."""
    assert key_of(SIGHTING.model_copy(update=change)) != key_of(SIGHTING)


def test_a_repeat_is_the_same_event() -> None:
    """The time of a repeat is that of the repetition, and says nothing."""
    assert key_of(SIGHTING.model_copy(update={"at": AT + timedelta(1)})) == key_of(SIGHTING)


def test_ids_are_each_client_s_own() -> None:
    """Two clients that count from one do not take each other's events for copies."""
    assert key_of(SIGHTING, "shop") != key_of(SIGHTING, "club")
    assert key_of(SIGHTING, "shop") != key_of(SIGHTING, None)


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
    (observation,) = observe(delivered(recipient))

    assert observation.domain == domain


@pytest.mark.parametrize("recipient", ["nobody", "a@[192.0.2.1]", "a@", "a@localhost"])
def test_a_recipient_without_a_domain(recipient: str) -> None:
    """What has no domain is an error, not evidence on something else."""
    with pytest.raises(ValueError, match="domain"):
        list(observe(delivered(recipient)))
