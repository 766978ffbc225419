"""A whole run: exact, different, too late, interrupted."""

import asyncio
import io
from datetime import UTC, datetime

import pytest

from ops.load import lane
from ops.load.errors import LoadError
from ops.load.events import Events
from ops.load.lane import knocking
from ops.load.progress import Progress
from ops.load.run import End, Limits, Run
from ops.load.sightings import Plan
from ops.load.table import Table
from tests.ops.load.gateway import KEY, Gateway

AT = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(concurrency=4, seconds=60.0, patience=0.5)


async def run(gateway: Gateway, batch: int = 1, limits: Limits = LIMITS) -> End:
    """Send 20 events of 5 domains to a gateway."""
    plan = Plan("0a1b2c3d", AT, events=20, domains=5, bounced=10, batch=batch)
    async with (
        knocking(gateway.url, KEY) as door,
        lane.http(gateway.url, KEY, plan.request) as way,
    ):
        events = Events(plan, Table(door), before=0)
        return await Run(events, way, limits, Progress(io.StringIO())).run()


@pytest.mark.parametrize("batch", [1, 3])
async def test_what_is_there_once_is_exact(batch: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Sent, answered, counted, compared: told in the end."""
    async with Gateway.serving() as gateway:
        assert await run(gateway, batch) is End.EXACT

    told = capsys.readouterr().out
    assert "20 of 20 events sent in" in told
    assert "answered after   p50" in told
    assert "5 domains, 17 delivered and 3 bounced" in told
    assert told.endswith("the domain table holds exactly what was sent\n")


async def test_a_refusal_that_was_done_nevertheless_counts_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is sent again is the same event."""
    async with Gateway.serving(refusals=7) as gateway:
        assert await run(gateway) is End.EXACT
        assert len(gateway.asked) == 27

    assert "7 times something had to be sent again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("faults", "told"),
    [({"lost": 2}, "2 differ"), ({"doubled": 1}, "1 differ")],
    ids=["lost", "doubled"],
)
async def test_what_is_lost_or_doubled_is_told(
    faults: dict[str, int], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each domain with what it has and what it should have."""
    async with Gateway.serving(**faults) as gateway:
        assert await run(gateway) is End.DIFFERENT

    text = capsys.readouterr().out
    assert f"the domain table does not hold what was sent; {told}:" in text
    assert "sent were 3 delivered and 1 bounced" in text


async def test_what_cannot_be_sent_in_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that did not do what it should is no success, though nothing is lost."""
    async with Gateway.serving(refusals=10_000) as gateway:
        assert await run(gateway, limits=Limits(4, 0.2, 0.2)) is End.DIFFERENT

    told = capsys.readouterr().out
    assert "4 were never answered" in told
    assert told.endswith("but only 0 of 20 could be sent in time\n")


async def test_a_wrong_key_ends_it() -> None:
    """There is nothing to wait for."""
    async with Gateway.serving() as gateway:
        plan = Plan("0a1b2c3d", AT, events=20, domains=5)
        async with (
            knocking(gateway.url, KEY) as door,
            lane.http(gateway.url, "wrong", plan.request) as way,
        ):
            load = Events(plan, Table(door), before=0)
            with pytest.raises(LoadError, match="401"):
                await Run(load, way, LIMITS, Progress(io.StringIO())).run()


@pytest.mark.parametrize("when", ["sending", "arriving"])
async def test_an_interruption_ends_with_what_was_seen(
    when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is compared then: what is under way may still arrive."""
    plan = Plan("0a1b2c3d", AT, events=20, domains=5)
    faults = {"refusals": 10_000} if when == "sending" else {"lost": 20, "busy_after": 20}
    async with (
        Gateway.serving(**faults) as gateway,
        knocking(gateway.url, KEY) as door,
        lane.http(gateway.url, KEY, plan.request) as way,
    ):
        load = Events(plan, Table(door), before=0)
        running = Run(load, way, Limits(4, 60.0, 60.0), Progress(io.StringIO()))
        task = asyncio.create_task(running.run())
        await gateway.busy.wait()
        running.interrupt()

        assert await task is End.INTERRUPTED

    assert "interrupted: the domain table was not compared" in capsys.readouterr().out
