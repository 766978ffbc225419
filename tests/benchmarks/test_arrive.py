"""The measurement of arrivals: real services, few codes."""

import pytest

from benchmarks import arrive
from benchmarks.arrive import ArrivalPlan, Arrivals
from benchmarks.bench import Bench


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_code_arrives(bench: Bench) -> None:
    """Each code is timed, with newsletters waiting and without."""
    idle, busy = await arrive.measure(bench, ArrivalPlan(count=5, waiting=3000))

    assert len(idle.latencies) == len(busy.latencies) == 5
    assert min(idle.latencies) > 0
    assert "3,000" in busy.name


async def test_a_mail_may_come_before_anybody_waits() -> None:
    """The time is that of the arrival, not of the look."""
    arrivals = Arrivals()
    expected = arrivals.expect("a@example.com")
    arrivals.arrived(b"b@example.com")
    arrivals.arrived(b"a@example.com")

    assert await arrivals.wait("a@example.com") == expected.result()
