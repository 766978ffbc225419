"""Some faults of `ops chaos`, each while a stack is under load: nothing is lost or doubled.

How soon it goes on is for `python -m ops.chaos`: that depends on the machine.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops import ports
from ops.chaos.faults import FAULTS
from ops.chaos.lanes import Endpoint
from ops.chaos.run import ChaosRun
from ops.chaos.scene import Kind, opened

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

# Beside those of other journeys, which kill services, the broker and PostgreSQL.
CHOSEN = ("pause-broker", "full-ledger")
AFTER_SECONDS = 2.0


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosRun]:
    """Start a stack of its own, and an endpoint of webhooks."""
    async with opened(Kind.PLAIN, tmp_path) as scene, Endpoint.open(*ports.unused(1)) as endpoint:
        await endpoint.register(scene.doors)
        yield ChaosRun(scene, endpoint, AFTER_SECONDS)


async def test_a_fault_loses_nothing_and_doubles_nothing(chaos: ChaosRun) -> None:
    """All that was accepted before, during and after a fault arrives once, and the books add up."""
    for name in CHOSEN:
        outcome = await chaos.run(FAULTS[name], name)

        assert outcome.counts.accepted > 0
        assert outcome.counts.delivered == outcome.counts.accepted
        assert (outcome.counts.lost, outcome.counts.repeated, outcome.books) == (0, 0, [])
        assert outcome.recovery.first is not None, f"{outcome.recovery.first_lane} never goes on"
