"""The measurements of inbound and of webhooks: real processes, few mails and events."""

import pytest

from benchmarks import postfix, reports, submit, webhooks
from benchmarks.bench import SQLITE, Bench, BenchPlan

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(180)]


async def test_every_report_is_published(bench: Bench) -> None:
    """Each report has a latency; the measurement fails unless the ledger knew every mail."""
    found = await reports.read(bench, BenchPlan(count=60, connections=2))

    assert len(found.latencies) == 60
    assert 0 < max(found.latencies) < found.seconds


async def test_every_event_arrives(bench: Bench) -> None:
    """The receiver gets each event once; the measurement fails unless all come."""
    found = await webhooks.delivered(bench, SQLITE, 3, 1)

    assert len(found.latencies) == webhooks.WANTED_RATE
    assert min(found.latencies) > 0


@pytest.mark.postfix
async def test_the_door_and_postfix_are_handed_the_same_mails(readable: Bench) -> None:
    """Both take all mails; the measurement fails unless each accepted one is on its queue."""
    if obstacle := await postfix.obstacle(readable):
        pytest.skip(obstacle)

    ours, rival = await submit.measure(readable, BenchPlan(count=20, repetitions=1, connections=2))

    assert len(ours.latencies) == len(rival.latencies) == 20
