"""The measurement of arrivals: real services, few mails."""

import pytest

from benchmarks import arrive
from benchmarks.arrive import Arrivals
from benchmarks.bench import Bench
from shared.topology import SHARDS, shard_of


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_code_arrives(bench: Bench) -> None:
    """Each code is timed, with newsletters waiting and without."""
    idle, busy = await arrive.measure(bench, count=5, waiting=3000)

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


def test_no_two_clients_share_a_shard() -> None:
    """Each of the clients has a queue of its own."""
    assert sorted(map(shard_of, arrive.clients())) == list(range(SHARDS))


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_mail_behind_a_backlog_is_timed(bench: Bench) -> None:
    """Each mail of the other client arrives while the backlog waits."""
    behind = await arrive.behind_backlog(bench, count=5, waiting=3000)

    assert len(behind.latencies) == 5
    assert min(behind.latencies) > 0
