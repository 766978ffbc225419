"""The measurement of the sender counts right: real processes, real queues, few mails."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import drain, postfix, sink
from benchmarks.bench import Bench, BenchError, BenchPlan
from benchmarks.services import Vhost
from benchmarks.sink import Sink
from shared.contracts import Category, EmailDelivered

pytestmark = pytest.mark.rabbit
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def delivered(at: datetime = _NOON) -> EmailDelivered:
    """Return the event of some delivered mail."""
    return EmailDelivered(
        id=str(uuid4()),
        at=at,
        email_id=str(uuid4()),
        category=Category.TRANSACTIONAL,
        recipient="a@b.example",
        attempt=1,
    )


@pytest.mark.journey
async def test_every_mail_is_sent_once_and_reported(bench: Bench) -> None:
    """A measured drain has as many outcomes and mails at the sink as there were commands."""
    async with sink.serving(bench, sink.own()) as served:
        drained = await drain.drained(bench, served, BenchPlan(count=40, connections=3))

        assert served.count() == 40

    assert drained.rate > 0
    assert drained.handling > drained.smtp > 0
    assert drained.memory > 10_000_000


def test_the_rate_is_from_the_first_to_the_last_outcome() -> None:
    """Five mails a second apart are one a second: there are four seconds between them."""
    events = [delivered(_NOON + timedelta(seconds=number)) for number in (3, 0, 4, 1, 2)]

    assert drain._rate(events) == 1.0


@pytest.mark.parametrize("expected", [2, 4])
async def test_outcomes_too_many_or_too_few_are_no_measurement(bench: Bench, expected: int) -> None:
    """A mail that was lost or sent twice is found."""
    async with Vhost.opened(bench) as vhost:
        for _ in range(3):
            await vhost.broker.publish(delivered())

        with pytest.raises(BenchError, match=f"3 outcomes of {expected} mails"):
            await drain.read_outcomes(vhost, expected)


async def test_outcomes_are_taken(bench: Bench) -> None:
    """All of them, and none is left."""
    events = [delivered() for _ in range(3)]
    async with Vhost.opened(bench) as vhost:
        for event in events:
            await vhost.broker.publish(event)

        outcomes = await drain.read_outcomes(vhost, 3)

        assert {each.id for each in outcomes} == {event.id for event in events}
        assert await vhost.waiting("classifier.evidence") == 0


@pytest.mark.rabbit
@pytest.mark.journey
async def test_all_mails_of_a_drain_are_counted(bench: Bench) -> None:
    """Mails of many clients, of one and of none are drained and counted."""
    async with sink.serving(bench, sink.own()) as served:
        series = await drain.of_clients(bench, served, BenchPlan(count=40, repetitions=1))

        assert served.count() == 3 * 40

    assert all(rate > 0 for each in series for rate in each.rates)


@pytest.mark.journey
async def test_long_mails_are_drained(bench: Bench) -> None:
    """Long mails are drained as well."""
    async with sink.serving(bench, sink.own()) as served:
        drained = await drain.drained(bench, served, BenchPlan(count=6, length=drain.LARGE_LENGTH))

    assert drained.rate > 0


@pytest.mark.rabbit
@pytest.mark.journey
async def test_all_have_the_same_mails_in_turns(bench: Bench) -> None:
    """Sender, rival and loop each send as many mails as the plan has, again and again."""
    seen = []

    async def rival(served: Sink, plan: BenchPlan) -> float:
        seen.append((served.count(), plan.count))
        return 7.0

    async with sink.serving(bench, sink.own()) as served:
        plan = BenchPlan(count=10, connections=3, repetitions=2)
        series, drains = await drain.contest(bench, served, plan, {"rival": rival})

        assert served.count() == 2 * 2 * 10

    assert seen == [(10, 10), (30, 10)]
    assert [each.name for each in series] == [drain.SENDER, "rival", drain.LOOP]
    assert series[1].rates == [7.0, 7.0]
    assert len(drains) == 2


async def test_a_rival_that_is_missing_is_named(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each says why; the others are measured all the same."""
    monkeypatch.setattr(postfix, "DAEMONS", tmp_path)
    there, missing = await drain.rivals(bench)

    assert drain.POSTFIX not in there
    assert missing[-1].startswith(f"{drain.POSTFIX} is left out: Postfix is not installed")
    assert len(there) + len(missing) == 2


@pytest.mark.journey
async def test_memory_is_sampled_while_mails_are_sent(bench: Bench) -> None:
    """The most memory is no less than each sample; mails that wait longer do no harm."""
    async with sink.serving(bench, sink.own()) as served:
        samples, peak = await drain.memory_samples(bench, served, BenchPlan(count=40, waiting=60))

    assert samples
    assert max(samples) <= peak


@pytest.mark.postfix
@pytest.mark.journey
async def test_bdat_and_data_are_measured_with_the_same_postfix(readable: Bench) -> None:
    """Both ways send all their mails to it, and the table has a row for each."""
    if obstacle := await postfix.obstacle(readable):
        pytest.skip(obstacle)
    plan = BenchPlan(count=20, repetitions=1, connections=2)

    text = "\n".join([each async for each in drain.chunking_lines(readable, plan)])

    assert text.startswith("\n20 mails of ")
    assert f"\n  {drain.BDAT}" in text
    assert f"\n  {drain.DATA}" in text
