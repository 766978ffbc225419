"""A whole run, its workers, and the two transports."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops import ports, topology
from ops.load.events import EventLoad, EventPlan
from ops.load.http import GatewayClient, HttpRequest, LoadError, TryLater
from ops.load.report import ProgressBar
from ops.load.run import Connect, ExitCode, LoadLimits, LoadRun, Workers, over_amqp, over_http
from shared import contracts
from shared.errors import Unavailable
from tests.ops.load.gateway import KEY, Gateway
from tests.tap import tapped

LONG = 60.0  # seconds
PLAN = EventPlan("0a1b2c3d", datetime(2026, 1, 1, tzinfo=UTC), events=5, domains=2, batch=2)
AT = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = LoadLimits(concurrency=4, seconds=60.0, patience=0.5)


def connect_to(send: Callable[[int], Awaitable[None]]) -> Connect[int]:
    """Return connections that send with one function."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        yield send

    return opened


async def test_so_many_send_at_the_same_time() -> None:
    """The concurrency is an upper limit, and is used while there is something to send."""
    busy, most, sent = 0, 0, list[int]()

    async def send(_: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    workers = Workers(iter(range(50)), connect_to(send), sent.append)
    await workers.work(7, LONG)

    assert most == 7
    assert sorted(sent) == list(range(50))
    assert len(workers.latencies) == 50


async def test_a_refused_item_is_sent_again() -> None:
    """A refused item is sent again until it is acknowledged."""
    tried, sent = list[int](), list[int]()

    async def send(item: int) -> None:
        tried.append(item)
        if tried.count(item) < 3:
            raise TryLater("not now", after=0)

    workers = Workers(iter([1, 2]), connect_to(send), sent.append)
    await workers.work(1, LONG)

    assert (tried, sent, workers.repeats) == ([1, 1, 1, 2, 2, 2], [1, 2], 4)
    assert not workers.unsure


async def test_a_request_without_an_answer_in_time_is_unsure() -> None:
    """An item without a response may have been processed, so it is neither lost nor sent."""

    async def send(item: int) -> None:
        raise Unavailable(f"no broker for {item}")

    workers = Workers(iter(range(9)), connect_to(send), list[int]().append)
    await workers.work(2, within=0)

    assert workers.unsure == [0, 1]
    assert not workers.latencies


async def test_what_is_under_way_is_waited_for() -> None:
    """A stop takes no new item, and waits for the responses to those under way."""
    all_busy, answer, sent = asyncio.Barrier(4), asyncio.Event(), list[int]()

    async def send(_: int) -> None:
        await all_busy.wait()
        await answer.wait()

    workers = Workers(iter(range(9)), connect_to(send), sent.append)
    working = asyncio.create_task(workers.work(3, LONG))
    await all_busy.wait()
    workers.stop()
    answer.set()
    await working

    assert sorted(sent) == [0, 1, 2]


async def test_what_can_never_be_sent_ends_all() -> None:
    """The first error that no repetition can help ends the run."""

    async def send(item: int) -> None:
        raise LoadError(f"no {item}")

    with pytest.raises(LoadError, match="no 0"):
        await Workers(iter(range(9)), connect_to(send), list[int]().append).work(3, LONG)


@pytest.mark.rabbit
async def test_a_message_is_confirmed_and_whole(vhost: str) -> None:
    """A published batch is on its exchange, as the classifier reads it."""
    await topology.declare(vhost)
    async with (
        tapped(vhost, "mail.events", "feedback.#") as tap,
        over_amqp(vhost, PLAN.message) as connect,
        connect() as send,
    ):
        for batch in PLAN.batches():
            await send(batch)
            arrived = await tap.next()
            assert contracts.decode(arrived.type or "", arrived.body) == PLAN.message(batch)


async def test_a_broker_that_is_not_there_is_reported_at_once() -> None:
    """An unreachable broker ends the run at once; the message hides the password."""
    (port,) = ports.unused(1)
    with pytest.raises(LoadError, match=f"127.0.0.1:{port}") as caught:
        async with over_amqp(f"amqp://u:hunter2@127.0.0.1:{port}/", PLAN.message):
            pass

    assert "hunter2" not in str(caught.value)


async def test_a_batch_of_which_a_part_is_refused_is_a_mistake() -> None:
    """A 207 is an error of this program, since all events are valid."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"accepted": 1, "refused": 1}, status=207)

    app = web.Application()
    app.router.add_post("/v1/events", answer)
    async with TestServer(app) as server:
        connecting = over_http(
            server.make_url("/"), "key", lambda _: HttpRequest("POST", "/v1/events", b"{}")
        )
        async with connecting as connect, connect() as send:
            with pytest.raises(LoadError, match="only a part"):
                await send(PLAN)


async def run(gateway: Gateway, batch: int = 1, limits: LoadLimits = LIMITS) -> ExitCode:
    """Send 20 events of 5 domains to a gateway."""
    plan = EventPlan("0a1b2c3d", AT, events=20, domains=5, bounced=10, batch=batch)
    async with (
        GatewayClient.open(gateway.url, KEY) as client,
        over_http(gateway.url, KEY, plan.request) as connect,
    ):
        events = EventLoad(plan, client, counted_before=0)
        return await LoadRun(events, connect, limits, ProgressBar(io.StringIO())).run()


@pytest.mark.parametrize("batch", [1, 3])
async def test_what_is_there_once_is_exact(batch: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without a difference prints all figures and returns 0."""
    async with Gateway.serving() as gateway:
        assert await run(gateway, batch) is ExitCode.EXACT

    printed = capsys.readouterr().out
    assert "20 of 20 events sent in" in printed
    assert "answered after   p50" in printed
    assert "5 domains, 17 delivered and 3 bounced" in printed
    assert printed.endswith("the domain table holds exactly what was sent\n")


async def test_a_refusal_that_was_done_nevertheless_counts_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An event that was processed and refused is counted once."""
    async with Gateway.serving(refusals=7) as gateway:
        assert await run(gateway) is ExitCode.EXACT
        assert len(gateway.asked) == 27

    assert "7 times something had to be sent again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("faults", "told"),
    [({"lost": 2}, "2 differ"), ({"doubled": 1}, "1 differ")],
    ids=["lost", "doubled"],
)
async def test_lost_and_doubled_mails_are_reported(
    faults: dict[str, int], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each domain is shown with the events that it has and those that it should have."""
    async with Gateway.serving(**faults) as gateway:
        assert await run(gateway) is ExitCode.DIFFERENT

    text = capsys.readouterr().out
    assert f"the domain table does not hold what was sent; {told}:" in text
    assert "sent were 3 delivered and 1 bounced" in text


async def test_what_cannot_be_sent_in_time_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that could not send everything is no success, though nothing is lost."""
    async with Gateway.serving(refusals=10_000) as gateway:
        assert await run(gateway, limits=LoadLimits(4, 0.2, 0.2)) is ExitCode.DIFFERENT

    printed = capsys.readouterr().out
    assert "4 were never answered" in printed
    assert printed.endswith("but only 0 of 20 could be sent in time\n")


async def test_a_wrong_key_ends_it() -> None:
    """A wrong key ends the run at once."""
    async with Gateway.serving() as gateway:
        plan = EventPlan("0a1b2c3d", AT, events=20, domains=5)
        async with (
            GatewayClient.open(gateway.url, KEY) as client,
            over_http(gateway.url, "wrong", plan.request) as connect,
        ):
            load = EventLoad(plan, client, counted_before=0)
            with pytest.raises(LoadError, match="401"):
                await LoadRun(load, connect, LIMITS, ProgressBar(io.StringIO())).run()


@pytest.mark.parametrize("when", ["sending", "arriving"])
async def test_an_interruption_ends_with_what_was_seen(
    when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupted run compares nothing, since events under way may still arrive."""
    plan = EventPlan("0a1b2c3d", AT, events=20, domains=5)
    faults = {"refusals": 10_000} if when == "sending" else {"lost": 20, "busy_after": 20}
    async with (
        Gateway.serving(**faults) as gateway,
        GatewayClient.open(gateway.url, KEY) as client,
        over_http(gateway.url, KEY, plan.request) as connect,
    ):
        load = EventLoad(plan, client, counted_before=0)
        running = LoadRun(load, connect, LoadLimits(4, 60.0, 60.0), ProgressBar(io.StringIO()))
        task = asyncio.create_task(running.run())
        await gateway.busy.wait()
        running.interrupt()

        assert await task is ExitCode.INTERRUPTED

    assert "interrupted: the domain table was not compared" in capsys.readouterr().out
