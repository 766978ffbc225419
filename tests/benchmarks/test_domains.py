"""The measurement of the classifier counts: a real process, few events."""

from itertools import islice
from pathlib import Path

import pytest

from benchmarks import domains
from benchmarks.bench import Bench
from services.classifier.service import MIGRATIONS
from services.classifier.store.reader import DomainReader
from shared.contracts import FeedbackReported, decode, encode
from shared.storage.database import Database

pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


@pytest.mark.parametrize("size", [1, 10])
async def test_all_that_waits_is_counted(bench: Bench, size: int) -> None:
    """The measurement ends when the classifier says that it has counted as many as there were."""
    plan = domains.FloodPlan(count=3000 * size, domains=20, size=size)
    found = await domains.flooded(bench, plan)

    assert found.rate > 0
    assert found.latencies
    assert found.memory > 10_000_000
    assert 0 < found.processor < 0.1


def test_they_are_what_anybody_might_send() -> None:
    """They are made without a check, so they are checked here: on the wire they are contracts."""
    report = domains.report_of(list(islice(domains.sightings(7), 500)))
    read = decode(report.routing_key, encode(report))

    assert isinstance(read, FeedbackReported)
    assert read == report
    assert {each.domain for each in read.sightings} == {domains.domain(n) for n in range(7)}


async def test_what_is_filled(tmp_path: Path) -> None:
    """Before the measurement each domain is known by one delivery, and no id is."""
    await domains.fill(None, tmp_path, 30)
    async with Database.open("classifier", None, tmp_path, MIGRATIONS) as database:
        totals = await DomainReader(database).totals()

    assert (totals.unknown, totals.delivered) == (30, 30)
