"""How far a handling has come is marked by the handler and read by its consumer."""

import pytest

from shared import inflight
from shared.inflight import HANDLER, InFlight, Phase
from tests.clock import Watch


def test_a_phase_counts_from_when_it_was_entered() -> None:
    """To enter it once more changes nothing: each piece of a mail marks it."""
    clock = Watch()
    work = InFlight(clock)
    clock.now += 5
    work.reach(Phase.COMMITTED, "a reply")
    clock.now += 2
    work.reach(Phase.COMMITTED, "a reply")

    assert (work.phase, work.waits_for, work.seconds) == (Phase.COMMITTED, "a reply", 2)


@pytest.mark.parametrize("phase", Phase)
def test_the_handler_marks_its_own_delivery(phase: Phase) -> None:
    """Far below the consumer, without being handed anything."""
    work = InFlight(Watch())
    token = inflight.current.set(work)
    inflight.reach(phase)
    inflight.current.reset(token)

    assert (work.phase, work.waits_for) == (phase, HANDLER)


def test_outside_of_a_delivery() -> None:
    """Code that runs without a consumer may mark what it likes."""
    inflight.reach(Phase.COMMITTED)

    assert inflight.current.get() is None
