"""Counting: exact for any order, any copies, any batches and any split over replicas."""

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.classifier.catalogue import Catalogue
from services.classifier.change import Change
from services.classifier.evidence import Observation
from services.classifier.record import Record, Totals
from services.classifier.rule import Evidence, Mode, Rule
from services.classifier.service import MIGRATIONS
from services.classifier.sketch import EMPTY, estimate, hashed, merge
from services.classifier.store import EvidenceStore
from shared.contracts import Verdict
from shared.storage import dialect
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, EVIDENCE, START, deliveries, observation
from tests.clock import Clock

RULES = (COUNTS, EVIDENCE)
DOMAINS = ("a.example", "b.example", "c.example")
SAID = ("delivered", "delivered", "delivered", "bounced", "policy", "undetermined")


def recount(events: Iterable[Observation], rule: Rule) -> dict[str, Record]:
    """Add up a set of events the plain way, for each domain."""
    once = {each.key: each for each in events}.values()
    return {domain: _recount(domain, once, rule) for domain in {each.domain for each in once}}


def _recount(domain: str, events: Iterable[Observation], rule: Rule) -> Record:
    own = [each for each in events if each.domain == domain]
    said = Counter(each.said for each in own)
    delivered = [each for each in own if each.said == "delivered"]
    refused = {each.mail for each in own if each.said != "delivered"}
    taken, recipients = 0, 0
    if rule.mode is Mode.EVIDENCE:
        taken = sum(each.mail in refused for each in delivered)
        recipients = estimate(merge(EMPTY, [hashed(each.recipient or "") for each in delivered]))
    counts = said["delivered"] - taken, said["bounced"], said["undetermined"]
    moments = [datetime.fromtimestamp(each.at / 1000, UTC) for each in own]
    others = {name: n for name, n in said.items() if name not in ("delivered", "bounced")}
    return Record(domain, Evidence(*counts, recipients), taken, min(moments), max(moments), others)


def sums(records: Iterable[Record], rule: Rule) -> Totals:
    """Add up the plain way over all domains."""
    each = list(records)
    verdicts = Counter(rule.verdict(record.evidence) for record in each)
    return Totals(
        verdicts[Verdict.UNKNOWN],
        verdicts[Verdict.CATCH_ALL],
        verdicts[Verdict.NOT_CATCH_ALL],
        sum(record.evidence.delivered for record in each),
        sum(record.evidence.bounced for record in each),
    )


async def check(database: Database, events: Iterable[Observation], rule: Rule) -> None:
    """Compare the tables with a recount."""
    catalogue, expected = Catalogue(database), recount(events, rule)
    for domain, record in expected.items():
        assert await catalogue.record(domain) == record
    assert await catalogue.totals() == sums(expected.values(), rule)
    for verdict in Verdict:
        listed = [each.domain for each in await catalogue.page(verdict, "", 1000)]
        assert listed == sorted(
            domain
            for domain, record in expected.items()
            if rule.verdict(record.evidence) == verdict
        )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Sequence[Observation], Sequence[Sequence[Observation]]]:
    """Draw a set of events and a history of it: any order, copies, batches."""
    picks = draw(
        st.lists(
            st.tuples(st.sampled_from(SAID), st.sampled_from(DOMAINS), st.integers(0, 5)),
            max_size=16,
        )
    )
    events = [observation(number, *pick) for number, pick in enumerate(picks)]
    copies = draw(st.lists(st.sampled_from(events), max_size=8)) if events else []
    history = draw(st.permutations([*events, *copies]))
    cuts = sorted(draw(st.lists(st.integers(0, len(history)), max_size=4)))
    ends = [*cuts, len(history)]
    return events, [history[a:b] for a, b in zip([0, *cuts], ends, strict=True) if a < b]


@settings(max_examples=25, deadline=None)
@given(histories(), st.sampled_from(RULES))
def test_order_copies_and_batches_change_nothing(
    drawn: tuple[Sequence[Observation], Sequence[Sequence[Observation]]], rule: Rule
) -> None:
    """The tables are a function of the set of events, however two replicas got them."""
    asyncio.run(_run(*drawn, rule))


async def _run(
    events: Sequence[Observation], batches: Sequence[Sequence[Observation]], rule: Rule
) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = [
            await stack.enter_async_context(Database.open("classifier", None, folder, MIGRATIONS))
            for _ in range(2)
        ]
        told = await asyncio.gather(
            *(
                EvidenceStore(both[turn % 2], rule).count(batch)
                for turn, batch in enumerate(batches)
            )
        )
        await check(both[0], events, rule)
        heard = last_heard(told)
        for domain, record in recount(events, rule).items():
            assert heard.get(domain, Verdict.UNKNOWN) == rule.verdict(record.evidence)


def last_heard(told: Iterable[Sequence[Change]]) -> dict[str, Verdict]:
    """Give what a listener believes in the end, who goes by the times of changes."""
    everything = sorted((each for some in told for each in some), key=lambda each: each.at)
    return {each.domain: each.status for each in everything}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.mode)
async def test_many_at_two_replicas(
    database: Database, replica: Database, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches with all domains, in any order, at two replicas at once: exact, and no deadlock."""
    monkeypatch.setattr(dialect, "MAX_ROWS", 7)
    chance = random.Random(5)  # noqa: S311 -- an order, the same at each run
    names = [f"d{number}.example" for number in range(20)]
    events = [
        observation(number, chance.choice(SAID), chance.choice(names), number // 3)
        for number in range(600)
    ]
    copies = [*events, *events[::2]]
    chance.shuffle(copies)
    stores = [EvidenceStore(each, rule) for each in (database, replica)]
    await asyncio.gather(
        *(
            stores[turn % 2].count(copies[start : start + 60])
            for turn, start in enumerate(range(0, len(copies), 60))
        )
    )

    await check(database, events, rule)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.mode)
async def test_any_order_any_copies_any_cuts(database: Database, rule: Rule) -> None:
    """Three histories of one set of events, each with domains of its own, end alike."""
    chance = random.Random(7)  # noqa: S311 -- an order, the same at each run
    picks = [(chance.choice(SAID), chance.choice("abc"), chance.randrange(90)) for _ in range(200)]
    store, everything = EvidenceStore(database, rule), list[Observation]()
    for turn in range(3):
        events = [
            observation(number, said, f"{name}{turn}.example", mail)._replace(
                key=f"key-{turn}-{number}", recipient=f"user{mail}@{name}.example"
            )
            for number, (said, name, mail) in enumerate(picks)
        ]
        history = chance.sample([*events, *events[::3]], 267)
        cuts = [0, *sorted(chance.sample(range(1, 267), 6)), 267]
        for start, end in pairwise(cuts):
            await store.count(history[start:end])
        everything += events

    await check(database, everything, rule)
    found = [await Catalogue(database).record(f"a{turn}.example") for turn in range(3)]
    assert [replace(each, domain="a.example") for each in found] == 3 * [
        replace(found[0], domain="a.example")
    ]


async def test_an_event_counts_once(database: Database, replica: Database) -> None:
    """Copies of one event, at two replicas at once, count once."""
    stores = [EvidenceStore(each, COUNTS) for each in (database, replica)]
    await asyncio.gather(*(stores[n % 2].count([observation(1)]) for n in range(20)))

    await check(database, [observation(1)], COUNTS)


async def test_a_change_is_given_by_its_event(database: Database) -> None:
    """The event that turns the verdict gives the change, and no other event does."""
    clock = Clock()
    store = EvidenceStore(database, COUNTS, clock)
    given = [await store.count([each]) for each in deliveries(5)]

    at = datetime.fromtimestamp(clock.seconds, UTC)
    change = Change("a.example", Verdict.CATCH_ALL, at, "key-3")
    assert given == [[], [], [], [change], []]


async def test_a_change_is_given_again(database: Database) -> None:
    """A copy of the event that turned the verdict gives the same change, whatever came since."""
    clock = Clock()
    store = EvidenceStore(database, COUNTS, clock)
    first = await store.count(deliveries(4))
    clock.seconds += 100
    overturned = await store.count([observation(9, "bounced")])
    batch = [*deliveries(4), observation(9, "bounced"), observation(10)]

    assert [change.status for change in first] == [Verdict.CATCH_ALL]
    assert [change.status for change in overturned] == [Verdict.NOT_CATCH_ALL]
    assert await store.count(batch) == [*first, *overturned]


async def test_a_batch_changes_a_verdict_once(database: Database) -> None:
    """What a batch turns there and back is no change; several domains are each their own."""
    store = EvidenceStore(database, COUNTS)
    batch = [
        *deliveries(5),
        observation(5, "bounced"),
        *(observation(number, domain="b.example") for number in range(6, 12)),
    ]
    changes = await store.count(batch)

    assert {(each.domain, each.status) for each in changes} == {
        ("a.example", Verdict.NOT_CATCH_ALL),
        ("b.example", Verdict.CATCH_ALL),
    }


async def test_a_delivery_taken_back_takes_the_verdict_back(database: Database) -> None:
    """In the mode `evidence` a late refusal of any kind can end a catch-all."""
    store = EvidenceStore(database, EVIDENCE)
    await store.count(deliveries(4))
    (change,) = await store.count([observation(9, "policy", mail=2)])
    record = await Catalogue(database).record("a.example")

    assert change.status == Verdict.UNKNOWN
    assert (record.evidence.delivered, record.taken_back) == (3, 1)
    assert record.refusals == {"policy": 1}


async def test_first_and_last(database: Database) -> None:
    """A domain knows its first and last event by when they happened, not when they came."""
    store = EvidenceStore(database, COUNTS)
    for number in (5, 9, 2, 7):
        await store.count([observation(number)])
    record = await Catalogue(database).record("a.example")

    assert record.first_event_at
    assert record.last_event_at
    assert (record.first_event_at - START).total_seconds() == 2
    assert (record.last_event_at - START).total_seconds() == 9
