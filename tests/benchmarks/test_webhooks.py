"""The measurement of webhooks: a real process and a receiver, few endpoints."""

import pytest

from benchmarks import webhooks
from benchmarks.bench import SQLITE, Bench

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(180)]


async def test_every_event_arrives(bench: Bench) -> None:
    """The receiver gets each event once; the measurement fails unless all come."""
    found = await webhooks.delivered(bench, SQLITE, 3, 1)

    assert len(found.latencies) == webhooks.WANTED_RATE
    assert min(found.latencies) > 0
