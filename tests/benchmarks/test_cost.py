"""The measurement of what a mail costs: a real process, few mails."""

import pytest

from benchmarks import cost, sink
from benchmarks.bench import Bench
from benchmarks.cost import Cost

pytestmark = pytest.mark.rabbit


@pytest.mark.journey
async def test_every_mail_is_paid_for(bench: Bench) -> None:
    """As many mails reach the sink as were asked for, and they cost some of the processor."""
    async with sink.serving(bench, sink.own()) as served:
        spent = await cost.measured(bench, served, 40, 3)

    assert spent.processor >= spent.loop > 0
    assert spent.clock > 0


def test_the_cost_is_that_of_one_mail() -> None:
    """A thousand mails in a second of the processor are a millisecond each."""
    text = Cost(processor=1.0, loop=0.75, clock=2.0).described(1000)

    assert text.endswith(
        "1000 µs of processor time a mail, 750 of them in the event loop; 500 mails/s"
    )
