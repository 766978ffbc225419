"""The measurement of reads, small, and the loads that it makes."""

import pytest

from benchmarks import reads
from benchmarks.accept import HttpPlan
from benchmarks.bench import Bench
from benchmarks.domains import DATABASES

pytestmark = [pytest.mark.rabbit, pytest.mark.timeout(180)]


async def test_each_kind_of_request_is_measured_on_each_database(bench: Bench) -> None:
    """Every request of every kind is answered from the mails that were filled in."""
    plan = reads.ReadPlan(200, HttpPlan(count=10, connections=2, repetitions=1))

    found = {name: series async for name, series in reads.measure(bench, plan, DATABASES)}

    assert tuple(found) == DATABASES
    for series in found.values():
        assert [len(each.latencies) for each in series] == [10] * len(series)
        assert "one mail" in {each.name for each in series}
