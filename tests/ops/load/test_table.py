"""The domain table, read page by page."""

from datetime import UTC, datetime

import pytest
from yarl import URL

from ops.load.errors import LoadError
from ops.load.lane import knocking
from ops.load.sightings import Counts, Plan
from ops.load.table import Table
from ops.simulator.settings import Settings
from ops.simulator.simulator import Simulator
from tests.ops.load.gateway import KEY, Gateway

PLAN = Plan("0a1b2c3d", datetime(2026, 1, 1, tzinfo=UTC), events=7, domains=5, bounced=0)


async def test_all_of_a_run_and_nothing_else_is_read() -> None:
    """Whatever pages it stands on, and whoever stands around it."""
    async with Gateway.serving() as gateway, knocking(gateway.url, KEY) as door:
        for batch in PLAN.batches():
            await door.ask(PLAN.request(batch))
        await door.ask(Plan("0a1b2c3e", PLAN.at, 1, 1).request(range(1)))

        found = await Table(door).counts(PLAN)
        events = await Table(door).events()

    assert found == {PLAN.domain(number): Counts(2 if number < 2 else 1) for number in range(5)}
    assert events == 8


async def test_a_run_that_is_not_there_is_empty() -> None:
    """It stops at the first domain that is another's."""
    async with Gateway.serving() as gateway, knocking(gateway.url, KEY) as door:
        assert not await Table(door).counts(PLAN)


async def test_another_server_is_no_gateway() -> None:
    """Any other answer is reported in a line."""
    async with Simulator(Settings()) as simulator, knocking(URL(simulator.web_url)) as door:
        with pytest.raises(LoadError, match=r"the gateway answers 404|is no gateway"):
            await Table(door).events()
