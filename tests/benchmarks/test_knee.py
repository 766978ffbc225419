"""The measurement of the number of mails at a time: a real simulator, few mails."""

import pytest

from benchmarks import knee
from benchmarks.bench import Bench
from benchmarks.knee import Found, Spans
from ops.simulator.behaviour import Behaviour

PLAY = Behaviour(service_ms=10, served_at_once=2)


@pytest.mark.journey
@pytest.mark.rabbit
async def test_all_numbers_send(bench: Bench) -> None:
    """Mails go with each fixed number and with the one that is found."""
    async with knee.playing(bench) as (smtp, web):
        found = await knee.measured(smtp, web, PLAY, Spans(0.2, 0.2, 0.2))

    assert list(found.fixed) == [1, 2, 3, 4]
    assert all(found.fixed.values())
    assert found.start
    assert found.later


@pytest.mark.parametrize(("later", "verdict"), [(90.0, "reached"), (89.0, "missed")])
def test_the_found_number_is_compared_with_the_best(later: float, verdict: str) -> None:
    """A tenth less than with the best fixed number is as much as may be lost."""
    text = Found({2: 50.0, 4: 100.0, 8: 80.0}, start=40.0, later=later).described

    assert "  found                      " in text
    assert text.endswith(f"wanted are 0.9 of the best: {verdict}")


def test_the_relay_is_named() -> None:
    """The figures name the relay that they are about."""
    assert knee.about(PLAY) == ("a relay 0 ms away that serves 2 mails at a time, each for 10 ms")
