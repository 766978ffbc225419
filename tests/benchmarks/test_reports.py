"""The measurement of reports: real processes, few reports."""

import pytest

from benchmarks import reports
from benchmarks.bench import Bench, BenchPlan

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(180)]


async def test_every_report_is_published(bench: Bench) -> None:
    """Each report has a latency; the measurement fails unless the ledger knew every mail."""
    found = await reports.read(bench, BenchPlan(count=60, connections=2))

    assert len(found.latencies) == 60
    assert 0 < max(found.latencies) < found.seconds
