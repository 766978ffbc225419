"""The measurement of the sender counts right: real processes, real queues, few mails."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from benchmarks import drain, sink
from benchmarks.bench import Bench, BenchError
from benchmarks.drain import DrainPlan, Timings
from ops import ports
from shared.broker import Broker
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
        drained = await drain.drained(bench, served, DrainPlan(40, 3))

        assert served.count() == 40

    assert drained.rate > 0
    assert drained.timings.handling > drained.timings.smtp > 0
    assert drained.memory > 10_000_000


def test_the_rate_is_from_the_first_to_the_last_outcome() -> None:
    """Five mails a second apart are one a second: there are four seconds between them."""
    events = [delivered(_NOON + timedelta(seconds=number)) for number in (3, 0, 4, 1, 2)]

    assert drain._rate(events) == 1.0


@pytest.mark.parametrize("expected", [2, 4])
async def test_outcomes_too_many_or_too_few_are_no_measurement(bench: Bench, expected: int) -> None:
    """A mail that was lost or sent twice is found."""
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, "test") as broker:
        for _ in range(3):
            await broker.publish(delivered())

        with pytest.raises(BenchError, match=f"3 outcomes of {expected} mails"):
            await drain.read_outcomes(broker, expected)


async def test_outcomes_are_taken(bench: Bench) -> None:
    """All of them, and none is left."""
    events = [delivered() for _ in range(3)]
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, "test") as broker:
        for event in events:
            await broker.publish(event)

        outcomes = await drain.read_outcomes(broker, 3)

        assert {each.id for each in outcomes} == {event.id for event in events}
        assert await drain.waiting_in(broker, "classifier.evidence") == 0


def test_means_are_over_all_queues() -> None:
    """A mean is over all labels of a metric."""
    registry = CollectorRegistry()
    handling = Histogram("postrider_handling_seconds", "-", ("queue",), registry=registry)
    handling.labels("a").observe(1.0)
    handling.labels("b").observe(3.0)
    smtp = Histogram("postrider_smtp_transaction_seconds", "-", registry=registry)
    smtp.observe(0.5)

    assert drain.parse_timings(generate_latest(registry).decode()) == Timings(
        handling=2.0, smtp=0.5
    )


def test_nothing_measured_is_nothing() -> None:
    """A sender that sent no mail has no times."""
    assert drain.parse_timings("") == Timings(handling=0.0, smtp=0.0)


async def test_a_sender_that_is_gone_is_reported_in_one_line() -> None:
    """Nobody is shown a traceback of an HTTP library."""
    with pytest.raises(BenchError, match="shows no metrics"):
        await drain.fetch_timings(ports.unused(1)[0])
