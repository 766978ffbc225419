"""Some faults of `ops chaos`, each while a stack is under load: nothing is lost or doubled.

How soon it goes on is for `python -m ops.chaos`: that depends on the machine.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops import ports
from ops.chaos.faults import FAULTS
from ops.chaos.flows import Endpoint
from ops.chaos.run import ChaosRun
from ops.chaos.scratch import StackKind, opened

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

# Beside those of other journeys, which kill services, the broker and PostgreSQL.
CHOSEN = ("pause-broker", "full-ledger")
AFTER_SECONDS = 2.0


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosRun]:
    """Start a stack of its own, and an endpoint of webhooks."""
    async with (
        opened(StackKind.PLAIN, tmp_path) as scratch,
        Endpoint.open(*ports.unused(1)) as endpoint,
    ):
        await endpoint.register(scratch.addresses)
        yield ChaosRun(scratch, endpoint, AFTER_SECONDS)


async def test_a_fault_loses_nothing_and_doubles_nothing(chaos: ChaosRun) -> None:
    """All that was accepted before, during and after a fault arrives once, and the books add up."""
    for name in CHOSEN:
        result = await chaos.run(FAULTS[name], name)

        assert result.counts.accepted > 0
        assert result.counts.delivered == result.counts.accepted
        assert (result.counts.lost, result.counts.repeated, result.books) == (0, 0, [])
        assert result.recovery.first is not None, f"{result.recovery.first_flow} never goes on"
