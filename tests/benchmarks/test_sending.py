"""The sender's parts without RabbitMQ: real processes, few mails."""

import pytest

from benchmarks import sending, sink
from benchmarks.bench import Bench
from benchmarks.sending import Cost, KneeRates, Spans
from ops.simulator.behaviour import Behaviour

PLAY = Behaviour(service_ms=10, served_at_once=2)


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_mail_is_paid_for(bench: Bench) -> None:
    """As many mails reach the sink as were asked for, and they cost some of the processor."""
    async with sink.serving(bench, sink.own()) as served:
        spent = await sending.cost(bench, served, 40, 3)

    assert spent.processor >= spent.loop > 0
    assert spent.clock > 0


def test_the_cost_is_that_of_one_mail() -> None:
    """A thousand mails in a second of the processor are a millisecond each."""
    text = Cost(processor=1.0, loop=0.75, clock=2.0).described(1000)

    assert text.endswith(
        "1000 µs of processor time a mail, 750 of them in the event loop; 500 mails/s"
    )


@pytest.mark.journey
@pytest.mark.rabbit
async def test_all_numbers_send(bench: Bench) -> None:
    """Mails go with each fixed number and with the one that is found."""
    async with sending.playing(bench) as (smtp, web):
        found = await sending.knee(smtp, web, PLAY, Spans(0.2, 0.2, 0.2))

    assert list(found.fixed) == [1, 2, 3, 4]
    assert all(found.fixed.values())
    assert found.start
    assert found.later


@pytest.mark.parametrize(("later", "verdict"), [(90.0, "reached"), (89.0, "missed")])
def test_the_found_number_is_compared_with_the_best(later: float, verdict: str) -> None:
    """A tenth less than with the best fixed number is as much as may be lost."""
    text = KneeRates({2: 50.0, 4: 100.0, 8: 80.0}, start=40.0, later=later).described

    assert "  found                      " in text
    assert text.endswith(f"wanted are 0.9 of the best: {verdict}")


def test_the_relay_is_named() -> None:
    """The figures name the relay that they are about."""
    assert sending.about(PLAY) == (
        "a relay 0 ms away that serves 2 mails at a time, each for 10 ms"
    )
