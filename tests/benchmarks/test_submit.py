"""The measurement of the submission door: real processes, few mails."""

import pytest

from benchmarks import postfix, submit
from benchmarks.bench import Bench, BenchPlan

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(180)]


@pytest.mark.postfix
async def test_the_door_and_postfix_are_handed_the_same_mails(readable: Bench) -> None:
    """Both take all mails; the measurement fails unless each accepted one is on its queue."""
    if obstacle := await postfix.obstacle(readable):
        pytest.skip(obstacle)

    ours, rival = await submit.measure(readable, BenchPlan(count=20, repetitions=1, connections=2))

    assert len(ours.latencies) == len(rival.latencies) == 20
