"""The measurement of the gateway counts right: a real gateway, few requests."""

import pytest

from benchmarks import accept
from benchmarks.accept import Plan
from benchmarks.bench import Bench

pytestmark = pytest.mark.rabbit


@pytest.mark.journey
async def test_every_accepted_message_is_on_the_queue(bench: Bench) -> None:
    """A measured load has as many latencies as requests, and as many commands as answers."""
    posts, pings = await accept.measure(bench, Plan(count=30, connections=3, repetitions=2))

    assert len(posts.latencies) == len(pings.latencies) == 2 * 30
    assert len(posts.rates) == len(pings.rates) == 2
    assert posts.rate > 0
    assert pings.rate > 0
