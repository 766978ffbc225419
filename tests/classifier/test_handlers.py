"""What the classifier answers and announces."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from services.classifier.cache import Cache
from services.classifier.catalogue import Catalogue
from services.classifier.change import Change
from services.classifier.evidence import Event
from services.classifier.handlers import MAX_AHEAD, TURN, Hearing, Oracle, Witness
from services.classifier.service import MIGRATIONS
from services.classifier.store import EvidenceStore
from services.classifier.tally import Tally
from shared.contracts import (
    Category,
    Contract,
    CountDomains,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    ListDomains,
    ReplyClass,
    Sighting,
    Verdict,
)
from shared.errors import Reject
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, EVIDENCE

AT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def database_url() -> None:
    """Stay with SQLite: the stores have tests of their own for both databases."""


@pytest.fixture
def witness(database: Database) -> Witness:
    """Give who counts."""
    return Witness(EvidenceStore(database, COUNTS))


@pytest.fixture
def oracle(database: Database) -> Oracle:
    """Give who answers."""
    return Oracle(Catalogue(database), COUNTS, Cache(0, lambda: 0))


async def told(witness: Witness, events: Sequence[Event]) -> Sequence[Contract]:
    """Let a witness hear events, as one batch."""
    hearing = Hearing(lambda: AT)
    for each in events:
        await hearing.add(each)
    await hearing.close()
    return await witness.on_hearing(hearing)


def delivery(number: int, recipient: str = "ann@a.example") -> EmailDelivered:
    """Give a delivery of our own."""
    return EmailDelivered(
        id=f"e-{number}",
        at=AT,
        email_id=f"m-{number}",
        category=Category.TRANSACTIONAL,
        recipient=recipient,
        attempt=1,
    )


def bounce(number: int, reply_class: ReplyClass) -> EmailBounced:
    """Give a bounce of our own."""
    return EmailBounced(**delivery(number).model_dump(), reply_class=reply_class)


def report(number: int, kind: Kind, *domains: str) -> FeedbackReported:
    """Give a report about some domains."""
    sightings = [
        Sighting(id=f"s-{number}-{place}", domain=domain, kind=kind, at=AT)
        for place, domain in enumerate(domains)
    ]
    return FeedbackReported(id=f"r-{number}", at=AT, sightings=tuple(sightings))


async def describe(oracle: Oracle, domain: str = "a.example") -> DomainDescribed:
    """Ask for the evidence on a domain."""
    (answer,) = await oracle.on_describe_domain(DescribeDomain(id="q-1", domain=domain))
    assert isinstance(answer, DomainDescribed)
    return answer


async def test_never_seen(oracle: Oracle) -> None:
    """A domain never seen is unknown, not an error."""
    answer = await describe(oracle)

    assert (answer.status, answer.delivered, answer.bounced) == (Verdict.UNKNOWN, 0, 0)
    assert (answer.since, answer.last_event_at) == (None, None)
    assert answer.reason == "unknown: 0 delivered, not more than 3, and no bounce"


async def test_every_kind_counts(witness: Witness, oracle: Oracle) -> None:
    """Our own outcomes and others' feedback add up in one sum; other refusals are shown apart."""
    await told(
        witness,
        [
            delivery(1),
            bounce(2, ReplyClass.MAILBOX_UNKNOWN),
            bounce(3, ReplyClass.UNDETERMINED),
            bounce(4, ReplyClass.POLICY),
            report(5, Kind.DELIVERED, "A.example.", "a.example", "b.example"),
            report(6, Kind.BOUNCED, "a.example"),
        ],
    )
    answer = await describe(oracle)

    assert (answer.status, answer.delivered, answer.bounced) == (Verdict.NOT_CATCH_ALL, 3, 2)
    assert answer.refusals == {"policy": 1, "undetermined": 1}
    assert (answer.since, answer.last_event_at) == (AT, AT)
    assert (answer.recipients, answer.taken_back) == (None, None)


async def test_the_mode_evidence_tells_more(database: Database) -> None:
    """Recipients and deliveries taken back are told where they have a say."""
    await told(
        Witness(EvidenceStore(database, EVIDENCE)),
        [delivery(number, f"u{number}@a.example") for number in range(5)],
    )
    answer = await describe(Oracle(Catalogue(database), EVIDENCE, Cache(0, lambda: 0)))

    assert answer.status == Verdict.CATCH_ALL
    assert (answer.recipients, answer.taken_back) == (5, 0)


class Turns:
    """Counts nothing but the turns of the loop that others had before it was asked to."""

    def __init__(self) -> None:
        self.had = 0
        self._at_last = -1
        asyncio.get_running_loop().call_soon(self._turn)

    async def count(self, tally: Tally) -> Sequence[Change]:
        """Stop counting."""
        assert len(tally.keys) == 2 * TURN
        self._at_last = self.had
        return []

    def _turn(self) -> None:
        self.had += 1
        if self._at_last < 0:
            asyncio.get_running_loop().call_soon(self._turn)


async def test_others_are_let_in_while_a_long_report_is_read() -> None:
    """Who asks a question does not wait for the last of its events."""
    turns = Turns()
    names = [f"d{number}.example" for number in range(2 * TURN)]
    await told(Witness(turns), [report(1, Kind.DELIVERED, *names)])

    assert turns.had >= 2


async def test_a_change_is_announced(witness: Witness) -> None:
    """The event that turns the verdict announces it, and again with the same id when it returns."""
    announced = [await told(witness, [delivery(number)]) for number in range(5)]
    again = await told(witness, [delivery(3), delivery(4)])

    assert [len(messages) for messages in announced] == [0, 0, 0, 1, 0]
    (change,) = announced[3]
    assert isinstance(change, DomainClassified)
    assert (change.domain, change.status) == ("a.example", Verdict.CATCH_ALL)
    assert again == [change]


async def test_what_has_no_domain_is_rejected(witness: Witness, oracle: Oracle) -> None:
    """A batch with such an outcome is refused whole, so that it can come again without it."""
    with pytest.raises(Reject, match="domain"):
        await told(witness, [delivery(1), delivery(2, "ann@[192.0.2.1]")])

    assert (await describe(oracle)).delivered == 0


async def test_an_event_of_the_future_is_rejected(witness: Witness, oracle: Oracle) -> None:
    """It would be the domain's last event for years; a wrong clock or zone is no reason.

    Issue 10, S6.
    """
    far, near = AT + MAX_AHEAD + timedelta(seconds=1), AT + MAX_AHEAD
    sighting = report(1, Kind.DELIVERED, "a.example").sightings[0]
    late = report(2, Kind.DELIVERED, "b.example").model_copy(
        update={"sightings": (sighting, sighting.model_copy(update={"at": far}))}
    )
    for event in (delivery(1).model_copy(update={"at": far}), late):
        with pytest.raises(Reject, match="at: must be at most 1 day ahead"):
            await told(witness, [event])
    assert (await describe(oracle)).delivered == 0

    await told(witness, [delivery(1).model_copy(update={"at": near})])
    assert (await describe(oracle)).last_event_at == near


async def test_pages(witness: Witness, oracle: Oracle) -> None:
    """Each page names what to ask for next, and the last one nothing."""
    await told(witness, [report(1, Kind.DELIVERED, *(f"d{n}.example" for n in range(5)))])
    pages: list[Sequence[str]] = []
    after: str | None = None
    while after or not pages:
        question = ListDomains(id="q-1", status=Verdict.UNKNOWN, after=after, limit=2)
        (page,) = await oracle.on_list_domains(question)
        assert isinstance(page, DomainsListed)
        pages.append([each.domain for each in page.domains])
        after = page.next

    assert pages == [["d0.example", "d1.example"], ["d2.example", "d3.example"], ["d4.example"]]


async def test_a_page_that_is_just_full_is_the_last(witness: Witness, oracle: Oracle) -> None:
    """Nobody is sent on to an empty page."""
    await told(witness, [report(1, Kind.DELIVERED, "a.example", "b.example")])
    (page,) = await oracle.on_list_domains(ListDomains(id="q-1", limit=2))

    assert isinstance(page, DomainsListed)
    assert (len(page.domains), page.next) == (2, None)


async def test_counts(witness: Witness, oracle: Oracle) -> None:
    """The sums tell domains by status, and events."""
    await told(
        witness,
        [
            report(1, Kind.DELIVERED, *["a.example"] * 4, "b.example"),
            report(2, Kind.BOUNCED, "c.example", "b.example", "c.example"),
            report(3, Kind.DELIVERED, "d.example"),
        ],
    )
    (sums,) = await oracle.on_count_domains(CountDomains(id="q-1"))

    assert sums == DomainsCounted(
        id="q-1", catch_all=1, not_catch_all=2, unknown=1, total=4, delivered=6, bounced=3
    )


async def test_a_cached_answer_has_its_time(database: Database, witness: Witness) -> None:
    """With a cache an answer may be as old as it was set to be, and no older."""
    looks = iter([0.0, 4.9, 5.0, 5.0])  # at the clock
    oracle = Oracle(Catalogue(database), COUNTS, Cache(5, partial(next, looks)))
    before = await describe(oracle)
    await told(witness, [report(1, Kind.BOUNCED, "a.example")])
    cached = await describe(oracle)
    after = await describe(oracle)

    assert [each.bounced for each in (before, cached, after)] == [0, 0, 1]


async def test_order_does_not_matter_over_a_restart(tmp_path: Path) -> None:
    """What was counted by another process before is known to this one."""
    for turn in range(2):
        async with Database.open("classifier", None, tmp_path, MIGRATIONS) as database:
            witness = Witness(EvidenceStore(database, COUNTS))
            await told(witness, [delivery(number) for number in range(turn + 1)])
            answer = await describe(Oracle(Catalogue(database), COUNTS, Cache(0, lambda: 0)))

    assert answer.delivered == 2
