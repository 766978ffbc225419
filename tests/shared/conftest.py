"""The fixtures of several modules, and the settings of the property tests."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from shared import rabbitmq, topology
from tests.shared.rabbitmq.scripted import Script

# A busy machine is no defect: Hypothesis' own limit of 200 ms an example would say it is one.
settings.register_profile("postrider", deadline=None)
settings.load_profile("postrider")


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """Listen as a broker."""
    async with Script.listening() as listening:
        yield listening


@pytest.fixture
async def url(vhost: str) -> str:
    """Declare the whole topology, with delays a thousand times shorter."""
    await rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues(scale=0.001))
    return vhost
