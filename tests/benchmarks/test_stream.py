"""The measurement of answers while events pour in: real processes, few events."""

import pytest

from benchmarks import flood, stream
from benchmarks.bench import Bench

pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


@pytest.mark.parametrize("size", [1, 10])
async def test_events_pour_in_while_questions_are_asked(bench: Bench, size: int) -> None:
    """Events are counted between the first answer and the last, and each answer has its time."""
    plan = flood.Plan(count=1000, domains=20, size=size)
    found = await stream.streamed(bench, None, plan, 500)

    assert 0 < found.rate < 1000
    assert len(found.latencies) > 10
