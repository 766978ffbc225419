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
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.classifier.evidence import Observation
from services.classifier.hyperloglog import EMPTY, estimate, hashed, merge
from services.classifier.rule import Evidence, Mode, VerdictChange, VerdictRule
from services.classifier.service import MIGRATIONS
from services.classifier.store import counting
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader, DomainRecord, DomainTotals
from services.classifier.store.sql import changes, mails, processed_events
from shared.contracts import Verdict
from shared.errors import Reject, Retry
from shared.storage import dialect
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, EVIDENCE, START, deliveries, observation
from tests.clock import Clock

RULES = (COUNTS, EVIDENCE)
DOMAINS = ("a.example", "b.example", "c.example")
KINDS = ("delivered", "delivered", "delivered", "bounced", "policy", "undetermined")


def recount(events: Iterable[Observation], rule: VerdictRule) -> dict[str, DomainRecord]:
    """Sum a set of events the plain way, for each domain."""
    once = {each.key: each for each in events}.values()
    return {domain: _recount(domain, once, rule) for domain in {each.domain for each in once}}


def _recount(domain: str, events: Iterable[Observation], rule: VerdictRule) -> DomainRecord:
    own = [each for each in events if each.domain == domain]
    kinds = Counter(each.kind for each in own)
    delivered = [each for each in own if each.kind == "delivered"]
    refused = {each.mail for each in own if each.kind != "delivered"}
    taken, recipients = 0, 0
    if rule.mode is Mode.EVIDENCE:
        taken = sum(each.mail in refused for each in delivered)
        recipients = estimate(merge(EMPTY, [hashed(each.recipient or "") for each in delivered]))
    counts = kinds["delivered"] - taken, kinds["bounced"], kinds["undetermined"]
    moments = [datetime.fromtimestamp(each.at / 1000, UTC) for each in own]
    others = {name: n for name, n in kinds.items() if name not in ("delivered", "bounced")}
    return DomainRecord(
        domain, Evidence(*counts, recipients), taken, min(moments), max(moments), others
    )


def sums(records: Iterable[DomainRecord], rule: VerdictRule) -> DomainTotals:
    """Sum the plain way over all domains."""
    each = list(records)
    verdicts = Counter(rule.verdict(record.evidence) for record in each)
    return DomainTotals(
        verdicts[Verdict.UNKNOWN],
        verdicts[Verdict.CATCH_ALL],
        verdicts[Verdict.NOT_CATCH_ALL],
        sum(record.evidence.delivered for record in each),
        sum(record.evidence.bounced for record in each),
    )


async def check(database: Database, events: Iterable[Observation], rule: VerdictRule) -> None:
    """Compare the tables with a recount."""
    reader, expected = DomainReader(database), recount(events, rule)
    for domain, record in expected.items():
        assert await reader.record(domain) == record
    assert await reader.totals() == sums(expected.values(), rule)
    for verdict in Verdict:
        listed = [each.domain for each in await reader.page(verdict, "", 1000)]
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
            st.tuples(st.sampled_from(KINDS), st.sampled_from(DOMAINS), st.integers(0, 5)),
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
    drawn: tuple[Sequence[Observation], Sequence[Sequence[Observation]]], rule: VerdictRule
) -> None:
    """The tables are a function of the set of events, however two replicas got them."""
    asyncio.run(_run(*drawn, rule))


async def _run(
    events: Sequence[Observation], batches: Sequence[Sequence[Observation]], rule: VerdictRule
) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = [
            await stack.enter_async_context(Database.open("classifier", None, folder, MIGRATIONS))
            for _ in range(2)
        ]
        made = await asyncio.gather(
            *(
                EvidenceStore(both[turn % 2], rule).count(batch)
                for turn, batch in enumerate(batches)
            )
        )
        await check(both[0], events, rule)
        verdicts = last_verdicts(made)
        for domain, record in recount(events, rule).items():
            assert verdicts.get(domain, Verdict.UNKNOWN) == rule.verdict(record.evidence)


def last_verdicts(made: Iterable[Sequence[VerdictChange]]) -> dict[str, Verdict]:
    """Return the last verdict on each domain, by the times of the changes."""
    everything = sorted((each for some in made for each in some), key=lambda each: each.at)
    return {each.domain: each.status for each in everything}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.mode)
async def test_many_at_two_replicas(
    database: Database, replica: Database, rule: VerdictRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches with all domains, in any order, at two replicas at once: exact, and no deadlock."""
    monkeypatch.setattr(dialect, "MAX_ROWS", 7)
    chance = random.Random(5)  # noqa: S311 -- an order, the same at each run
    names = [f"d{number}.example" for number in range(20)]
    events = [
        observation(number, chance.choice(KINDS), chance.choice(names), number // 3)
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
async def test_any_order_any_copies_any_cuts(database: Database, rule: VerdictRule) -> None:
    """Three histories of one set of events, each with domains of its own, end alike."""
    chance = random.Random(7)  # noqa: S311 -- an order, the same at each run
    picks = [(chance.choice(KINDS), chance.choice("abc"), chance.randrange(90)) for _ in range(200)]
    store, everything = EvidenceStore(database, rule), list[Observation]()
    for turn in range(3):
        events = [
            observation(number, kind, f"{name}{turn}.example", mail)._replace(
                key=f"key-{turn}-{number}", recipient=f"user{mail}@{name}.example"
            )
            for number, (kind, name, mail) in enumerate(picks)
        ]
        history = chance.sample([*events, *events[::3]], 267)
        cuts = [0, *sorted(chance.sample(range(1, 267), 6)), 267]
        for start, end in pairwise(cuts):
            await store.count(history[start:end])
        everything += events

    await check(database, everything, rule)
    found = [await DomainReader(database).record(f"a{turn}.example") for turn in range(3)]
    assert [replace(each, domain="a.example") for each in found] == 3 * [
        replace(found[0], domain="a.example")
    ]


async def test_an_event_counts_once(database: Database, replica: Database) -> None:
    """Copies of one event, at two replicas at once, count once."""
    stores = [EvidenceStore(each, COUNTS) for each in (database, replica)]
    await asyncio.gather(*(stores[n % 2].count([observation(1)]) for n in range(20)))

    await check(database, [observation(1)], COUNTS)


async def test_a_change_is_given_by_its_event(database: Database) -> None:
    """The event that changes the verdict returns the change, and no other event does."""
    clock = Clock()
    store = EvidenceStore(database, COUNTS, clock)
    given = [await store.count([each]) for each in deliveries(5)]

    at = datetime.fromtimestamp(clock.seconds, UTC)
    change = VerdictChange("a.example", Verdict.CATCH_ALL, at, "key-3")
    assert given == [[], [], [], [change], []]


async def test_a_change_is_given_again(database: Database) -> None:
    """A copy of the event that changed the verdict returns the same change again."""
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
    """A batch changes the verdict on a domain at most once, and on each domain for itself."""
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
    record = await DomainReader(database).record("a.example")

    assert change.status == Verdict.UNKNOWN
    assert (record.evidence.delivered, record.taken_back) == (3, 1)
    assert record.refusals == {"policy": 1}


async def test_first_and_last(database: Database) -> None:
    """The first and last event of a domain are those by their own times."""
    store = EvidenceStore(database, COUNTS)
    for number in (5, 9, 2, 7):
        await store.count([observation(number)])
    record = await DomainReader(database).record("a.example")

    assert record.first_event_at
    assert record.last_event_at
    assert (record.first_event_at - START).total_seconds() == 2
    assert (record.last_event_at - START).total_seconds() == 9


@pytest.fixture
def store(database: Database, clock: Clock) -> EvidenceStore:
    """Return the store of one test."""
    return EvidenceStore(database, COUNTS, clock)


async def rows(database: Database, *tables: sa.Table) -> list[int]:
    """Return the number of rows of each table."""
    return [
        await database.read(
            lambda connection, each=table: connection.execute(  # type: ignore[misc] # mypy#12557
                sa.select(sa.func.count()).select_from(each)
            ).scalar_one()
        )
        for table in tables
    ]


async def test_old_rows_are_forgotten(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old keys, changes and mails are deleted piece by piece; the sums stay."""
    monkeypatch.setattr(counting, "PURGE_ROWS", 2)
    store = EvidenceStore(database, EVIDENCE, clock)
    await store.count(deliveries(5))
    clock.seconds += 60
    kept = await store.purge(60)
    clock.seconds += 1
    await store.count([observation(9)])
    forgotten = await store.purge(60)

    assert kept == 0
    assert forgotten == 5 + 1 + 5
    assert await rows(database, processed_events, changes, mails) == [1, 0, 1]
    assert (await DomainReader(database).record("a.example")).evidence.delivered == 6


@pytest.mark.postgres
async def test_purging_looks_at_old_rows_alone(postgres_url: str, tmp_path: Path) -> None:
    """PostgreSQL finds old rows by an index, and reads no young row."""
    async with Database.open("classifier", postgres_url, tmp_path, MIGRATIONS) as database:
        plans = await database.write(_plans)

    assert len(plans) == 3
    assert not [plan for plan in plans if "Seq Scan" in plan or "Sort" in plan]


def _plans(connection: sa.Connection) -> list[str]:
    # A small table is read whole, whatever its indexes.
    connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
    return [
        "\n".join(connection.scalars(sa.text(f"EXPLAIN {_said(connection, old)}")))
        for _, old in counting.OLD
    ]


def _said(connection: sa.Connection, query: sa.Select[tuple[object]]) -> str:
    values = query.limit(10).params(limit=1000)
    return str(values.compile(connection, compile_kwargs={"literal_binds": True}))


async def test_what_cannot_be_kept_is_refused(store: EvidenceStore) -> None:
    """A value that no database can hold is rejected; other events are counted."""
    poison = observation(1)._replace(at=1 << 63)

    with pytest.raises(Reject, match="the evidence cannot hold a value"):
        await store.count([poison])
    assert await store.count(deliveries(1)) == []


async def test_without_its_tables_it_is_tried_again(
    store: EvidenceStore, database: Database
) -> None:
    """An event is retried while the database is away."""
    await database.write(processed_events.drop)

    with pytest.raises(Retry, match="the evidence cannot be reached"):
        await store.count(deliveries(1))
