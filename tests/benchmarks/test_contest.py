"""The rivals of the sender, and their order."""

from pathlib import Path

import pytest

from benchmarks import contest, postfix, sink
from benchmarks.bench import Bench
from benchmarks.drain import DrainPlan
from benchmarks.sink import Sink


@pytest.mark.rabbit
@pytest.mark.journey
async def test_all_have_the_same_mails_in_turns(bench: Bench) -> None:
    """Sender, rival and loop each send as many mails as the plan has, again and again."""
    seen = []

    async def rival(served: Sink, count: int) -> float:
        seen.append((served.count(), count))
        return 7.0

    async with sink.serving(bench, sink.own()) as served:
        result = await contest.measure(bench, served, DrainPlan(10, 3), {"rival": rival}, 2)

        assert served.count() == 2 * 2 * 10

    assert seen == [(10, 10), (30, 10)]
    assert [series.name for series in result.series] == [contest.SENDER, "rival", contest.LOOP]
    assert result.series[1].rates == [7.0, 7.0]
    assert len(result.drains) == 2


async def test_a_rival_that_is_missing_is_named(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each says why; the others are measured all the same."""
    monkeypatch.setattr(postfix, "DAEMONS", tmp_path)
    rivals = await contest.rivals(bench)

    assert contest.POSTFIX not in rivals.there
    assert rivals.missing[-1].startswith(f"{contest.POSTFIX} is left out: Postfix is not installed")
    assert len(rivals.there) + len(rivals.missing) == 2
