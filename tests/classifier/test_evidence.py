"""Evidence: what counts, when two events are one, and the sums of many events."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from services.classifier.evidence import (
    DELIVERED,
    FIRST,
    LAST,
    SORT_RUN,
    TAKEN_BACK,
    EvidenceBatch,
    MailOutcomes,
    Observation,
    hashed,
    in_order,
    mail_outcomes,
    observe,
)
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    MailReference,
    ReplyClass,
    ReportBounced,
    ReportSource,
    Sighting,
)
from tests.classifier.observations import observation

AT = datetime(2030, 1, 1, tzinfo=UTC)
SIGHTING = Sighting(id="s-1", domain="example.com", kind=Kind.DELIVERED, at=AT)


def bounced(reply_class: ReplyClass) -> EmailBounced:
    """Return a bounce of our own."""
    return EmailBounced(
        id="e-1",
        at=AT,
        email_id="m-1",
        category=Category.BULK,
        recipient="a@example.com",
        attempt=1,
        reply_class=reply_class,
    )


def reported_bounce(reply_class: ReplyClass = ReplyClass.MAILBOX_UNKNOWN) -> ReportBounced:
    """Return a report that one of our mails bounced after its delivery."""
    mail = MailReference(email_id="m-1", category=Category.BULK, recipient="a@example.com")
    return ReportBounced.about(mail, at=AT, source=ReportSource.DSN, reply_class=reply_class)


def delivered(recipient: str = "a@example.com") -> EmailDelivered:
    """Return a delivery of our own."""
    return EmailDelivered(
        id="e-1", at=AT, email_id="m-1", category=Category.OTP, recipient=recipient, attempt=1
    )


def reported(*sightings: Sighting, client: str | None = "shop") -> FeedbackReported:
    """Return a report."""
    return FeedbackReported(id="r-1", at=AT, client=client, sightings=sightings)


def key_of(sighting: Sighting, client: str | None = "shop") -> str:
    """Return the key of one sighting."""
    (observation,) = observe(reported(sighting, client=client))
    return observation.key


def test_our_own_delivery_counts() -> None:
    """A delivery counts for the domain of its recipient."""
    (observation,) = observe(delivered())

    assert (observation.domain, observation.kind) == ("example.com", "delivered")
    assert observation.at == AT.timestamp() * 1000
    assert observation.recipient == "a@example.com"


@pytest.mark.parametrize("reply_class", ReplyClass)
def test_of_our_own_bounces_one_counts(reply_class: ReplyClass) -> None:
    """Of our own bounces only "no such mailbox" is one; others are kept apart by their class."""
    (observation,) = observe(bounced(reply_class))

    unknown = reply_class == ReplyClass.MAILBOX_UNKNOWN
    assert observation.kind == ("bounced" if unknown else reply_class)


def test_our_own_events_are_of_one_mail() -> None:
    """A late bounce finds its delivery by mail and recipient."""
    late, delivery = bounced(ReplyClass.POLICY), delivered()

    assert next(observe(late)).mail == next(observe(delivery)).mail
    assert next(observe(reported_bounce())).mail == next(observe(delivery)).mail
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
    """Two different events with one id both count, in any order."""
    assert next(observe(other)).key != next(observe(delivered())).key
    later = other.model_copy(update={"at": AT + timedelta(1)})
    assert next(observe(later)).key == next(observe(other)).key


def test_feedback_counts_as_it_is_called() -> None:
    """A reported sighting counts as its kind, whatever its reason, each for itself."""
    bounce = SIGHTING.model_copy(update={"id": "s-2", "kind": Kind.BOUNCED})

    assert [each.kind for each in observe(reported(SIGHTING, bounce))] == ["delivered", "bounced"]


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
    """Two different sightings are two events, so that their order does not matter."""
    assert key_of(SIGHTING.model_copy(update=change)) != key_of(SIGHTING)


def test_a_repeat_is_the_same_event() -> None:
    """The time of a repeated sighting makes it no other event."""
    assert key_of(SIGHTING.model_copy(update={"at": AT + timedelta(1)})) == key_of(SIGHTING)


def test_ids_are_each_client_s_own() -> None:
    """The same id of two clients is two events."""
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
    """A domain is in lower-case A-labels, however it was spelled; a sub-domain is its own."""
    (observation,) = observe(delivered(recipient))

    assert observation.domain == domain


@pytest.mark.parametrize("recipient", ["nobody", "a@[192.0.2.1]", "a@", "a@localhost"])
def test_a_recipient_without_a_domain(recipient: str) -> None:
    """A recipient without a domain is an error."""
    with pytest.raises(ValueError, match="domain"):
        list(observe(delivered(recipient)))


def test_sums() -> None:
    """Deliveries, bounces and refusals are kept apart, for each domain."""
    batch = EvidenceBatch(
        [
            observation(1),
            observation(2, "bounced"),
            observation(3, ReplyClass.POLICY),
            observation(4, ReplyClass.UNDETERMINED),
            observation(5, domain="b.example"),
        ]
    )
    first = batch.domains["a.example"]

    assert first[DELIVERED:] == [1, 1, 2, 1, 0]
    assert batch.domains["b.example"][DELIVERED:] == [1, 0, 0, 0, 0]
    assert (batch.delivered, batch.bounced) == (2, 1)
    assert batch.refusals == {("a.example", "policy"): 1, ("a.example", "undetermined"): 1}


def test_a_key_counts_once() -> None:
    """A copy in the same batch, and a copy of an event counted before, count nothing."""
    some = [observation(1), observation(1), observation(2), observation(3)]

    assert EvidenceBatch(some).delivered == 3
    assert EvidenceBatch(some, known={"key-2", "key-3"}).delivered == 1


def test_times_of_copies_count() -> None:
    """The first and last time do not depend on which of two copies came first."""
    first, last = observation(1), observation(1)._replace(at=observation(9).at)
    batches = [EvidenceBatch(some, known={"key-1"}) for some in ([first, last], [last, first])]
    sums = [batch.domains["a.example"] for batch in batches]

    assert [(each[FIRST], each[LAST]) for each in sums] == [(first.at, last.at)] * 2
    assert [(batch.delivered, batch.events) for batch in batches] == [(0, {})] * 2


def test_a_cleared_batch_is_empty() -> None:
    """A cleared batch has no sums."""
    batch = EvidenceBatch([observation(number, domain=f"d{number}.example") for number in range(9)])
    batch.clear()

    assert batch.domains == {}


DELIVERY = observation(1)
AGAIN = observation(2, mail=1)
LATE = observation(3, "policy", mail=1)


def after(batches: list[list[Observation]]) -> tuple[int, int]:
    """Return the deliveries and those taken back when some batches were counted."""
    known, delivered, taken = MailOutcomes("a.example"), 0, 0
    for observations in batches:
        batch = EvidenceBatch(observations)
        (mail,) = mail_outcomes(observations, set(batch.keys)).values()
        known.delivered += mail.delivered
        known.refused += mail.refused
        batch.take_back(mail, known)
        delivered += batch.domains["a.example"][DELIVERED]
        taken += batch.domains["a.example"][TAKEN_BACK]
    return delivered, taken


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("split", [(1, 2, 3), (1, 3), (2, 3), (3,)], ids=str)
def test_a_late_bounce_takes_deliveries_back(
    order: tuple[int, ...], split: tuple[int, ...]
) -> None:
    """A refused mail is not delivered, in any order of its events and in any batches."""
    events = [(DELIVERY, AGAIN, LATE)[place] for place in order]
    batches = [events[begin:end] for begin, end in itertools.pairwise((0, *split))]

    assert after(batches) == (0, 2)


def test_without_a_bounce_all_stand() -> None:
    """A mail without a refusal keeps its deliveries."""
    assert after([[DELIVERY], [AGAIN]]) == (2, 0)


def test_only_what_names_a_mail() -> None:
    """An event without a mail, and a copy, add no outcome."""
    anonymous = observation(4)._replace(mail=None)
    mails = mail_outcomes([DELIVERY, DELIVERY, anonymous, LATE], {"key-1", "key-4"})

    assert list(mails) == [hashed("mail", "mail-1/a.example")]
    assert (mails[hashed("mail", "mail-1/a.example")].delivered, *mails.values())[0] == 1


CHANCE = random.Random(3)  # noqa: S311 -- an order, the same at each run
SORTED = [f"d{number:06}.example" for number in range(20 * SORT_RUN)]
SHUFFLED = CHANCE.sample(SORTED, len(SORTED))


@pytest.mark.parametrize("count", [0, 1, SORT_RUN, SORT_RUN + 1, 20 * SORT_RUN])
def test_all_come_in_order(count: int) -> None:
    """Each name comes once, after all smaller names."""
    runs = in_order(SHUFFLED[:count])

    assert [name for run in runs for name in run] == sorted(SHUFFLED[:count])


@pytest.mark.parametrize("names", [SORTED, SORTED[::-1], SHUFFLED], ids=["up", "down", "shuffled"])
def test_no_piece_is_long(names: list[str]) -> None:
    """A run is a small part of the whole."""
    assert max(map(len, in_order(names))) < 8 * SORT_RUN


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_late_bounce_takes_its_delivery_back(order: tuple[int, int]) -> None:
    """A mail that was delivered and then reported as bounced is one bounce and no delivery."""
    events = (delivered(), reported_bounce())
    observations = [next(observe(events[place])) for place in order]
    [mail] = mail_outcomes(observations, [each.key for each in observations]).values()

    assert (mail.delivered, mail.refused, mail.standing) == (1, 1, 0)


def test_only_an_unknown_mailbox_in_a_report_is_a_bounce() -> None:
    """A report of a policy block proves nothing about the domain, as when a relay says it."""
    kinds = [next(observe(reported_bounce(each))).kind for each in ReplyClass]

    assert kinds == [
        "bounced" if each is ReplyClass.MAILBOX_UNKNOWN else each.value for each in ReplyClass
    ]
