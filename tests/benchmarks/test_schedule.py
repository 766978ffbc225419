"""The measurement of the scheduler: a real process, few subscriptions."""

import pytest

from benchmarks import schedule
from benchmarks.bench import DATABASES, SQLITE, Bench

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
    found = await schedule.finding(bench, name, [400, 500])

    assert [len(each.latencies) for each in found] == [schedule.LOOKS] * 2


async def test_no_mail_for_later_is_early(bench: Bench) -> None:
    """The measurement ends when each mail was published once, none of them before its time."""
    found = await schedule.lateness(bench, SQLITE, 50, 1.0)

    assert len(found.latencies) == 50
    assert min(found.latencies) > 0
