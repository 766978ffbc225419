"""The dispatcher with real tables, real receivers over https, and a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from services.webhooks.dispatch import Dispatcher, Lane
from services.webhooks.requests import WebhookRequester
from services.webhooks.service import MIGRATIONS
from shared.contracts import ChangeWebhook, DisabledFor, ReplayWebhook
from shared.storage.database import Database
from tests.clock import Clock
from tests.waiting import until
from tests.webhooks.conftest import ALLOWED, TRY_SECONDS
from tests.webhooks.receivers import LOOPBACK, Names, Receiver, answer_after
from tests.webhooks.store.tables import SEALER, Tables
from tests.webhooks.store.test_deliveries import of

HOUR = 3600


@pytest.fixture
async def tables(tmp_path: Path, clock: Clock) -> AsyncIterator[Tables]:
    """Return the stores of one test, on SQLite; as many endpoints as wanted."""
    async with Database.open("webhooks", None, tmp_path, MIGRATIONS) as database:
        stores = Tables.of(database, clock)
        stores.endpoints._max_endpoints = 10_000
        yield stores


@pytest.fixture
async def requester(ca_file: Path, clock: Clock) -> AsyncIterator[WebhookRequester]:
    """Open a requester at the time of the test, for which every name is this host."""

    def now() -> datetime:
        return datetime.fromtimestamp(clock.seconds, UTC)

    async with WebhookRequester.opened(
        TRY_SECONDS, ALLOWED, ca_file, Names(LOOPBACK), now
    ) as opened:
        yield opened


def dispatcher(tables: Tables, requester: WebhookRequester, connections: int = 100) -> Dispatcher:
    """Return a dispatcher without jitter."""
    return Dispatcher(
        tables.deliveries,
        requester.send,
        SEALER,
        max_connections=connections,
        endpoint_connections=10,
        jitter=lambda: 0.5,
    )


@asynccontextmanager
async def sending(
    tables: Tables, requester: WebhookRequester, connections: int = 100, drain: float = TRY_SECONDS
) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher beside the block."""
    running = dispatcher(tables, requester, connections)
    async with running.running(drain):
        yield running


async def all_are(tables: Tables, status: str, *endpoints: str) -> None:
    """Wait until every event of some endpoints has this status."""

    async def holds() -> bool:
        found = [await tables.states(each) for each in endpoints or ("w1",)]
        return all({*each.values()} == {status} for each in found)

    await until(holds)


async def test_fifty_receivers_that_hang_among_a_thousand(
    tables: Tables, requester: WebhookRequester, receiver: Receiver
) -> None:
    """All others get each event once, while these still hang; each of these has one request."""
    released, names = asyncio.Event(), [f"w{number}" for number in range(1000)]
    hanging = {f"/w{number}" for number in range(0, 1000, 20)}
    receiver.answers.update(dict.fromkeys(hanging, answer_after(released)))
    for name in names:
        await tables.add(name, url=receiver.url(f"/{name}"))
    await tables.keep("e1", "e2", "e3")
    async with sending(tables, requester):
        await receiver.count(950 * 3 + 50)
        # While these still hang.
        counts = receiver.counts
        released.set()
        await receiver.count(1000 * 3)

    assert len(hanging) == 50
    assert {key: count for key, count in counts.items() if key[0] not in hanging} == {
        (f"/{name}", of(event)): 1
        for name in names
        if f"/{name}" not in hanging
        for event in ("e1", "e2", "e3")
    }
    assert sum(count for key, count in counts.items() if key[0] in hanging) == 50
    assert set(receiver.counts.values()) == {1}


async def test_a_receiver_that_is_down_for_an_hour(
    tables: Tables, requester: WebhookRequester, receiver: Receiver
) -> None:
    """It gets every event once it is back, under the same webhook-id; half an hour later."""
    names = [f"e{number}" for number in range(50)]
    receiver.statuses["/hooks"] = 503
    await tables.add(url=receiver.url())
    begin = tables.clock.seconds
    await tables.keep(*names)
    async with sending(tables, requester) as running:
        await receiver.count(3)
        while tables.clock.seconds < begin + HOUR:
            tables.clock.seconds += 300
            await tables.upkeep.spread()
            running.wake()
            await quiet(tables)
        receiver.statuses.clear()
        down, tables.clock.seconds = len(receiver.got), tables.clock.seconds + HOUR / 2
        running.wake()
        await receiver.count(down + 1)

        async def is_delivered() -> bool:
            await tables.upkeep.spread()
            running.wake()
            return set((await tables.states()).values()) == {"delivered"}

        await until(is_delivered)

    assert {each.message_id for each in receiver.got} == set(map(of, names))
    assert len(receiver.got) - down == len(names)
    # Three in a row and then one at a time, each time later.
    assert down < len(names)
    assert (await tables.found()).failures == 0


async def quiet(tables: Tables) -> None:
    """Wait until nothing is under way."""

    async def holds() -> bool:
        token = "SELECT count(*) FROM deliveries WHERE token IS NOT NULL"
        database: Database = tables.deliveries._database
        found = await database.read(lambda c: c.exec_driver_sql(token).scalar_one())
        return bool(found == 0)

    await until(holds)


async def test_410_ends_it(tables: Tables, requester: WebhookRequester, receiver: Receiver) -> None:
    """No request follows; enabled again and replayed, all events are sent."""
    receiver.statuses["/hooks"] = 410
    await tables.add(url=receiver.url())
    await tables.keep("e1", "e2", "e3")
    async with sending(tables, requester) as running:
        await all_are(tables, "held")
        found, refused = await tables.found(), len(receiver.got)
        receiver.statuses.clear()
        change = ChangeWebhook(id="q", webhook_id="w1", enabled=True)
        await tables.endpoints.change(change)
        await tables.history.replay(ReplayWebhook(id="q", webhook_id="w1"))
        await tables.upkeep.spread()
        running.wake()
        await all_are(tables, "delivered")

    assert found.disabled_for is DisabledFor.GONE
    assert refused == 1
    assert len(receiver.got) == 4


async def test_an_endpoint_that_is_deleted_while_a_try_is_under_way(
    tables: Tables, requester: WebhookRequester, receiver: Receiver
) -> None:
    """The try ends without a trace, and nothing else is sent."""
    released = asyncio.Event()
    receiver.answers["/hooks"] = answer_after(released)
    await tables.add("w1", url=receiver.url())
    await tables.add("w2", url=receiver.url("/other"))
    await tables.keep("e1", "e2")
    async with sending(tables, requester) as running:
        await receiver.count(3)
        await tables.endpoints.delete(None, "w1")
        await running.recall("w1")
        released.set()
        await all_are(tables, "delivered", "w2")

    assert receiver.counts.total() == 3
    # The event that waited is deleted by the dispatcher if it looks in time, else by the purge.
    assert await tables.upkeep.purge() in {1, 2}
    assert await tables.upkeep.purge() == 0


async def test_two_replicas_send_each_event_once(
    tables: Tables, requester: WebhookRequester, receiver: Receiver, tmp_path: Path
) -> None:
    """They share the work of one database."""
    names = [f"e{number}" for number in range(200)]
    await tables.add(url=receiver.url())
    await tables.keep(*names)
    async with (
        Database.open("webhooks", None, tmp_path, MIGRATIONS) as database,
        sending(tables, requester),
        sending(Tables.of(database, tables.clock), requester),
    ):
        await receiver.count(len(names))
        await all_are(tables, "delivered")

    assert set(receiver.counts.values()) == {1}
    assert {each.message_id for each in receiver.got} == set(map(of, names))


async def test_a_stop_finishes_what_is_under_way(
    tables: Tables, requester: WebhookRequester, receiver: Receiver
) -> None:
    """Its result is kept, and what was not sent is due for others at once."""
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        del request
        asyncio.get_running_loop().call_soon(released.set)
        await released.wait()
        return web.Response()

    receiver.answers["/hooks"] = hang
    await tables.add(url=receiver.url())
    await tables.keep("e1", "e2", "e3")
    running = dispatcher(tables, requester)
    async with running.running(TRY_SECONDS):
        await receiver.count(1)
    sent = set(receiver.counts)
    due = {each.message_id for each in await tables.take()}

    assert {key[1] for key in sent} | due == {of("e1"), of("e2"), of("e3")}
    assert {key[1] for key in sent}.isdisjoint(due)


async def test_a_stop_cuts_off_what_takes_too_long(
    tables: Tables, requester: WebhookRequester, receiver: Receiver
) -> None:
    """It counts as no try, and is due for others at once."""
    receiver.answers["/hooks"] = answer_after(asyncio.Event())
    await tables.add(url=receiver.url())
    await tables.keep("e1")
    async with sending(tables, requester, drain=0.0):
        await receiver.count(1)
    [due] = await tables.take()

    assert (due.message_id, due.tries, due.failures) == (of("e1"), 0, 0)


async def test_endpoints_that_fail_have_half_of_the_connections(
    tables: Tables, requester: WebhookRequester, receiver: Receiver
) -> None:
    """However many of them hang, the others are served."""
    held = asyncio.Event()
    for number in range(10):
        name = f"w{number}"
        receiver.statuses[f"/{name}"] = 500
        await tables.add(name, url=receiver.url(f"/{name}"))
    await tables.keep("first")
    async with sending(tables, requester, connections=4) as running:
        await receiver.count(10)
        await quiet(tables)
        receiver.answers.update({f"/w{number}": answer_after(held) for number in range(10)})
        tables.clock.seconds += HOUR
        running.wake()
        await receiver.count(12)
        await tables.add("good", url=receiver.url("/good"))
        await tables.keep("second", "third")
        running.wake()
        await receiver.wait(lambda: sum(each.path == "/good" for each in receiver.got) == 2)
        hanging = sum(each.path != "/good" for each in receiver.got) - 10
        held.set()

    assert hanging == 2


def test_a_lane_grows_with_what_it_needs() -> None:
    """One more connection for a success that needed all; one after a failure."""
    lane = Lane(3)
    allowances = []
    for success in (True, True, True, False):
        lane.in_flight = lane.allowance
        lane.end(success=success)
        if not success:
            lane.shrink()
        allowances.append(lane.allowance)
    lane.in_flight = 1
    lane.allowance = 2
    lane.end(success=True)

    assert allowances == [2, 3, 3, 1]
    assert lane.allowance == 2
