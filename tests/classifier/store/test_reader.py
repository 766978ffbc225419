"""Reads of domains, and records kept in memory for a moment."""

from datetime import timedelta

import pytest

from services.classifier.store import reader as reader_module
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader, DomainRecord, DomainTotals
from shared.contracts import Verdict
from shared.contracts.fields import END_OF_TIME, EPOCH
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, observation
from tests.clock import Watch


async def fill(database: Database, count: int) -> None:
    """Count an event for each of some domains; every second event is a bounce."""
    await EvidenceStore(database, COUNTS).count(
        [
            observation(number, "bounced" if number % 2 else "delivered", f"d{number}.example")
            for number in range(count)
        ]
    )


async def test_never_seen(database: Database) -> None:
    """A domain never seen has an empty record, and an empty table has empty pages."""
    reader = DomainReader(database)

    assert await reader.record("never.example") == DomainRecord("never.example")
    assert await reader.page(None, "", 10) == []
    assert await reader.totals() == DomainTotals(0, 0, 0, 0, 0)


async def test_pages(database: Database) -> None:
    """Pages that follow one another have each domain once."""
    await fill(database, 7)
    reader = DomainReader(database)
    seen: list[str] = []
    while page := await reader.page(None, seen[-1] if seen else "", 3):
        seen += [each.domain for each in page]

    assert seen == [f"d{number}.example" for number in range(7)]


async def test_pages_of_one_status(database: Database) -> None:
    """A page of one status has its domains in the same order."""
    await fill(database, 7)
    page = await DomainReader(database).page(Verdict.NOT_CATCH_ALL, "d1.example", 10)

    assert [each.domain for each in page] == ["d3.example", "d5.example"]


async def test_refusals_are_shown(database: Database) -> None:
    """Each domain of a page has its refusals by their class."""
    await EvidenceStore(database, COUNTS).count(
        [
            *(observation(number, "policy") for number in range(3)),
            observation(4, "mailbox_full"),
            observation(5, "policy", "b.example"),
            observation(6, domain="c.example"),
        ]
    )
    page = await DomainReader(database).page(None, "", 10)

    assert [each.refusals for each in page] == [
        {"mailbox_full": 1, "policy": 3},
        {"policy": 1},
        {},
    ]


async def test_times_out_of_range_are_shown_as_the_nearest(database: Database) -> None:
    """A time that an older release kept, of the year 1 or 292 million, hides no domain."""
    for number, at in enumerate((-62_135_596_800_000, (1 << 63) - 1)):
        await EvidenceStore(database, COUNTS).count([observation(number)._replace(at=at)])

    record = await DomainReader(database).record("a.example")

    assert (record.first_event_at, record.last_event_at) == (
        EPOCH,
        END_OF_TIME - timedelta(milliseconds=1),
    )


async def test_a_kept_record_has_its_time(database: Database) -> None:
    """A record is kept for the set seconds, counted from the begin of its read."""
    watch = Watch()
    reader = DomainReader(database, 5, watch)
    before = await reader.record("d0.example")
    await fill(database, 1)
    watch.now += 4.9
    kept = await reader.record("d0.example")
    watch.now += 0.1
    after = await reader.record("d0.example")

    assert kept == before
    assert after.evidence.delivered == 1


async def test_no_record_is_kept_by_default(database: Database) -> None:
    """Without seconds to keep records, every read is new."""
    reader = DomainReader(database, 0, Watch())
    await reader.record("d0.example")
    await fill(database, 1)

    assert (await reader.record("d0.example")).evidence.delivered == 1


async def test_the_number_of_kept_records_is_limited(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that was kept first is dropped for the next one."""
    monkeypatch.setattr(reader_module, "MAX_CACHED", 2)
    reader = DomainReader(database, 5, Watch())
    names = ["d2.example", "d1.example", "d0.example"]
    for name in reversed(names):
        await reader.record(name)
    await fill(database, 3)
    known = [(await reader.record(name)).first_event_at is not None for name in names]

    assert known == [False, False, True]
