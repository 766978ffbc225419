"""The measurement of counting counts: both ways, few events."""

from itertools import islice
from pathlib import Path

from benchmarks import count, events, plain
from services.classifier.catalogue import Catalogue
from services.classifier.service import MIGRATIONS
from shared.storage.database import Database


async def test_every_way_is_measured(database_url: str | None) -> None:
    """Each way has a rate a repetition, in the order in which they are told."""
    plan = count.Plan(domains=50, seconds=0.01, batches=(1, 10), repetitions=2)
    found = await count.measure(database_url, plan)

    assert [each.name for each in found] == [
        "batches of 1",
        "batches of 10",
        "an upsert an event, 1,000 a commit",
        "an upsert an event, one a commit",
    ]
    assert all(len(each.rates) == 2 and min(each.rates) > 0 for each in found)


async def test_a_copy_counts_once_the_plain_way_too(
    database_url: str | None, tmp_path: Path
) -> None:
    """Both ways do the same work: an event that comes again changes nothing."""
    some = events.observations(list(islice(events.sightings(domains=5), 100)))
    async with plain.opened(database_url, tmp_path) as opened:
        await opened.fill([events.domain(number) for number in range(5)])
        await opened.count(some)
        await opened.count(some)

        assert await opened.sum() == 5 + 100


async def test_what_is_filled(tmp_path: Path) -> None:
    """Before the measurement each domain is known by one delivery, and no id is."""
    async with Database.open("classifier", None, tmp_path, MIGRATIONS) as database:
        await count.fill(database, 30)
        totals = await Catalogue(database).totals()

    assert (totals.unknown, totals.delivered) == (30, 30)
