"""A simulator for each test, with a clock that only the test moves."""

from collections.abc import AsyncIterator

import pytest

from ops.simulator.simulator import Simulator
from tests.clock import Watch


@pytest.fixture
def clock() -> Watch:
    """Return the clock of `simulator`."""
    return Watch()


@pytest.fixture
async def simulator(clock: Watch) -> AsyncIterator[Simulator]:
    """Open a simulator on free ports that accepts any login."""
    async with Simulator(clock=clock) as opened:
        yield opened
