"""The measurement of shards: real services, few mails."""

import pytest

from benchmarks import share, sink
from benchmarks.bench import Bench
from benchmarks.drain import DrainPlan
from benchmarks.share import BacklogPlan
from shared.shards import SHARDS, shard_of


def test_no_two_clients_share_a_shard() -> None:
    """Each of the clients has a queue of its own."""
    assert sorted(map(shard_of, share.clients())) == list(range(SHARDS))


@pytest.mark.rabbit
@pytest.mark.journey
async def test_all_mails_of_a_drain_are_counted(bench: Bench) -> None:
    """Mails of many clients, of one and of none are drained and counted."""
    async with sink.serving(bench, sink.own()) as served:
        series = await share.drains(bench, served, DrainPlan(40, 3), 1)

        assert served.count() == 3 * 40

    assert all(rate > 0 for each in series for rate in each.rates)


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_mail_behind_a_backlog_is_timed(bench: Bench) -> None:
    """Each mail of the other client arrives while the backlog waits."""
    behind = await share.behind_backlog(bench, BacklogPlan(count=5, waiting=3000))

    assert len(behind.latencies) == 5
    assert min(behind.latencies) > 0
