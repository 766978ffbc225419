"""The measurement of the scheduler: a real process, few subscriptions."""

import pytest

from benchmarks import schedule
from benchmarks.bench import DATABASES, Bench

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(180)]


@pytest.mark.parametrize("name", DATABASES)
async def test_all_that_is_due_is_mailed_once(bench: Bench, name: str) -> None:
    """The measurement ends when each subscription has been mailed, once."""
    found = await schedule.released(bench, name, 5000)

    assert found.rate > 0
    assert found.memory > 10_000_000
    assert 0 < found.processor < 0.1


@pytest.mark.parametrize("name", DATABASES)
async def test_the_next_one_is_found(bench: Bench, name: str) -> None:
    """Each look finds the one subscription that is due at it."""
    found = await schedule.finding(bench, name, 400)

    assert len(found.latencies) == schedule.LOOKS
