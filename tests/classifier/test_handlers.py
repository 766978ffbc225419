"""The answers and announcements of the classifier."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from services.classifier.evidence import Event, Observation
from services.classifier.handlers import (
    MAX_AHEAD,
    OBSERVE_TOGETHER,
    EventHandlers,
    QueryHandlers,
)
from services.classifier.rule import VerdictChange, VerdictRule
from services.classifier.service import MIGRATIONS
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader
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


def event_handlers(database: Database, rule: VerdictRule = COUNTS) -> EventHandlers:
    """Return the handlers of events at the time AT."""
    return EventHandlers(EvidenceStore(database, rule), lambda: AT)


@pytest.fixture
def handlers(database: Database) -> EventHandlers:
    """Return the handlers of events under the rule of the mode `counts`."""
    return event_handlers(database)


@pytest.fixture
def queries(database: Database) -> QueryHandlers:
    """Return the handlers of questions."""
    return QueryHandlers(DomainReader(database), COUNTS)


async def counted(handlers: EventHandlers, events: Sequence[Event]) -> Sequence[Contract]:
    """Handle events, all at once; return what is announced."""
    announced = await asyncio.gather(*map(handlers.on_event, events))
    return [message for messages in announced for message in messages]


def delivery(number: int, recipient: str = "ann@a.example") -> EmailDelivered:
    """Return a delivery of our own."""
    return EmailDelivered(
        id=f"e-{number}",
        at=AT,
        email_id=f"m-{number}",
        category=Category.TRANSACTIONAL,
        recipient=recipient,
        attempt=1,
    )


def bounce(number: int, reply_class: ReplyClass) -> EmailBounced:
    """Return a bounce of our own."""
    return EmailBounced(**delivery(number).model_dump(), reply_class=reply_class)


def report(number: int, kind: Kind, *domains: str) -> FeedbackReported:
    """Return a report about some domains."""
    sightings = [
        Sighting(id=f"s-{number}-{place}", domain=domain, kind=kind, at=AT)
        for place, domain in enumerate(domains)
    ]
    return FeedbackReported(id=f"r-{number}", at=AT, sightings=tuple(sightings))


async def describe(queries: QueryHandlers, domain: str = "a.example") -> DomainDescribed:
    """Ask for the evidence on a domain."""
    (answer,) = await queries.on_describe_domain(DescribeDomain(id="q-1", domain=domain))
    assert isinstance(answer, DomainDescribed)
    return answer


async def test_never_seen(queries: QueryHandlers) -> None:
    """A domain never seen is unknown, not an error."""
    answer = await describe(queries)

    assert (answer.status, answer.delivered, answer.bounced) == (Verdict.UNKNOWN, 0, 0)
    assert (answer.since, answer.last_event_at) == (None, None)
    assert answer.reason == "unknown: 0 delivered, not more than 3, and no bounce"


async def test_every_kind_counts(handlers: EventHandlers, queries: QueryHandlers) -> None:
    """Own outcomes and feedback add up in one sum; other refusals are shown apart."""
    await counted(
        handlers,
        [
            delivery(1),
            bounce(2, ReplyClass.MAILBOX_UNKNOWN),
            bounce(3, ReplyClass.UNDETERMINED),
            bounce(4, ReplyClass.POLICY),
            report(5, Kind.DELIVERED, "A.example.", "a.example", "b.example"),
            report(6, Kind.BOUNCED, "a.example"),
        ],
    )
    answer = await describe(queries)

    assert (answer.status, answer.delivered, answer.bounced) == (Verdict.NOT_CATCH_ALL, 3, 2)
    assert answer.refusals == {"policy": 1, "undetermined": 1}
    assert (answer.since, answer.last_event_at) == (AT, AT)
    assert (answer.recipients, answer.taken_back) == (None, None)


async def test_the_mode_evidence_tells_more(database: Database) -> None:
    """Recipients and deliveries taken back are answered in the mode `evidence` alone."""
    await counted(
        event_handlers(database, EVIDENCE),
        [delivery(number, f"u{number}@a.example") for number in range(5)],
    )
    answer = await describe(QueryHandlers(DomainReader(database), EVIDENCE))

    assert answer.status == Verdict.CATCH_ALL
    assert (answer.recipients, answer.taken_back) == (5, 0)


async def test_a_change_is_announced(handlers: EventHandlers) -> None:
    """The event that changes the verdict announces it, and so do its copies, with the same id."""
    announced = [await counted(handlers, [delivery(number)]) for number in range(5)]
    again = await counted(handlers, [delivery(3), delivery(4)])

    assert [len(messages) for messages in announced] == [0, 0, 0, 1, 0]
    (change,) = announced[3]
    assert isinstance(change, DomainClassified)
    assert (change.domain, change.status) == ("a.example", Verdict.CATCH_ALL)
    assert again == [change]


async def test_what_has_no_domain_is_rejected(
    handlers: EventHandlers, queries: QueryHandlers
) -> None:
    """A recipient without a domain is rejected; other events at the same time are counted."""
    outcomes = await asyncio.gather(
        *map(handlers.on_event, [delivery(1), delivery(2, "ann@[192.0.2.1]"), delivery(3)]),
        return_exceptions=True,
    )

    assert [type(each) for each in outcomes] == [list, Reject, list]
    assert (await describe(queries)).delivered == 2


async def test_an_event_of_the_future(handlers: EventHandlers, queries: QueryHandlers) -> None:
    """More than a day ahead, where it would be the last for years, a report is rejected.

    An outcome of our sender, whose clock was wrong, counts as one of now. Issue 10, S6.
    """
    far, near = AT + MAX_AHEAD + timedelta(seconds=1), AT + MAX_AHEAD
    sighting = report(1, Kind.DELIVERED, "a.example").sightings[0]
    late = report(2, Kind.DELIVERED, "b.example").model_copy(
        update={"sightings": (sighting, sighting.model_copy(update={"at": far}))}
    )
    with pytest.raises(Reject, match="at: must be at most 1 day ahead"):
        await counted(handlers, [late])
    await counted(handlers, [delivery(1).model_copy(update={"at": far})])
    assert (await describe(queries)).delivered == 1
    assert (await describe(queries)).last_event_at == AT

    await counted(handlers, [delivery(2).model_copy(update={"at": near})])
    assert (await describe(queries)).last_event_at == near


async def test_pages(handlers: EventHandlers, queries: QueryHandlers) -> None:
    """Each page but the last names the start of the next."""
    await counted(handlers, [report(1, Kind.DELIVERED, *(f"d{n}.example" for n in range(5)))])
    pages: list[Sequence[str]] = []
    after: str | None = None
    while after or not pages:
        question = ListDomains(id="q-1", status=Verdict.UNKNOWN, after=after, limit=2)
        (page,) = await queries.on_list_domains(question)
        assert isinstance(page, DomainsListed)
        pages.append([each.domain for each in page.domains])
        after = page.next

    assert pages == [["d0.example", "d1.example"], ["d2.example", "d3.example"], ["d4.example"]]


async def test_a_page_that_is_just_full_is_the_last(
    handlers: EventHandlers, queries: QueryHandlers
) -> None:
    """A page that is just full is the last one, so that no page is empty."""
    await counted(handlers, [report(1, Kind.DELIVERED, "a.example", "b.example")])
    (page,) = await queries.on_list_domains(ListDomains(id="q-1", limit=2))

    assert isinstance(page, DomainsListed)
    assert (len(page.domains), page.next) == (2, None)


async def test_counts(handlers: EventHandlers, queries: QueryHandlers) -> None:
    """The sums count domains by status, and events."""
    await counted(
        handlers,
        [
            report(1, Kind.DELIVERED, *["a.example"] * 4, "b.example"),
            report(2, Kind.BOUNCED, "c.example", "b.example", "c.example"),
            report(3, Kind.DELIVERED, "d.example"),
        ],
    )
    (sums,) = await queries.on_count_domains(CountDomains(id="q-1"))

    assert sums == DomainsCounted(
        id="q-1", catch_all=1, not_catch_all=2, unknown=1, total=4, delivered=6, bounced=3
    )


async def test_a_cached_answer_has_its_time(database: Database, handlers: EventHandlers) -> None:
    """A cached answer is no older than it is set to be."""
    looks = iter([0.0, 4.9, 5.0])  # at the clock
    queries = QueryHandlers(DomainReader(database, 5, partial(next, looks)), COUNTS)
    before = await describe(queries)
    await counted(handlers, [report(1, Kind.BOUNCED, "a.example")])
    cached = await describe(queries)
    after = await describe(queries)

    assert [each.bounced for each in (before, cached, after)] == [0, 0, 1]


async def test_order_does_not_matter_over_a_restart(tmp_path: Path) -> None:
    """Events that another process counted before are counted once."""
    for turn in range(2):
        async with Database.open("classifier", None, tmp_path, MIGRATIONS) as database:
            handlers = event_handlers(database)
            await counted(handlers, [delivery(number) for number in range(turn + 1)])
            answer = await describe(QueryHandlers(DomainReader(database), COUNTS))

    assert answer.delivered == 2


async def test_a_large_report_leaves_time_for_others(handlers: EventHandlers) -> None:
    """Other work has its turn after each OBSERVE_TOGETHER events, and all of them are counted."""
    parts = 3
    sightings = tuple(
        Sighting(id=f"s{number}", domain="a.example", kind=Kind.DELIVERED, at=AT)
        for number in range(parts * OBSERVE_TOGETHER)
    )
    report = FeedbackReported(id="r", at=AT, sightings=sightings)
    turns, counted_at = 0, list[int]()

    class Store:
        async def count(self, observations: Sequence[Observation]) -> Sequence[VerdictChange]:
            counted_at.extend([turns, len(observations)])
            return []

    handling = asyncio.create_task(EventHandlers(Store(), handlers.now).on_event(report))  # type: ignore[arg-type]
    while not handling.done():
        await asyncio.sleep(0)
        turns += 1

    assert counted_at == [parts, parts * OBSERVE_TOGETHER]
