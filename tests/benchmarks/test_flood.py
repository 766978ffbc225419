"""The measurement of the classifier counts: a real process, few events."""

import pytest

from benchmarks import flood
from benchmarks.bench import Bench

pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


@pytest.mark.parametrize("size", [1, 10])
async def test_all_that_waits_is_counted(bench: Bench, size: int) -> None:
    """The measurement ends when the classifier says that it has counted as many as there were."""
    plan = flood.Plan(count=3000 * size, domains=20, size=size)
    found = await flood.flooded(bench, None, plan)

    assert found.rate > 0
    assert found.latencies
    assert found.memory > 10_000_000
    assert 0 < found.processor < 0.1
