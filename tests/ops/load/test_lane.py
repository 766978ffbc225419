"""The two ways in, on a real broker and on a gateway that refuses a part."""

from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops import ports, topology
from ops.load import lane
from ops.load.door import Request
from ops.load.errors import LoadError
from ops.load.sightings import Plan
from shared import contracts
from tests.tap import tapped

PLAN = Plan("0a1b2c3d", datetime(2026, 1, 1, tzinfo=UTC), events=5, domains=2, batch=2)


@pytest.mark.rabbit
async def test_a_message_is_confirmed_and_whole(vhost: str) -> None:
    """What a lane has sent is on its exchange, as the classifier will read it."""
    await topology.declare(vhost)
    async with (
        tapped(vhost, "mail.events", "feedback.#") as tap,
        lane.amqp(vhost, PLAN.report) as way,
        way() as send,
    ):
        for batch in PLAN.batches():
            await send(batch)
            arrived = await tap.next()
            assert contracts.decode(arrived.type or "", arrived.body) == PLAN.report(batch)


async def test_a_broker_that_is_not_there_is_told_at_once() -> None:
    """A person waits at the terminal; the password is not told."""
    (port,) = ports.unused(1)
    with pytest.raises(LoadError, match=f"127.0.0.1:{port}") as caught:
        async with lane.amqp(f"amqp://u:hunter2@127.0.0.1:{port}/", PLAN.report):
            pass

    assert "hunter2" not in str(caught.value)


async def test_a_batch_of_which_a_part_is_refused_is_a_mistake() -> None:
    """All events are good ones, so the gateway and this program disagree."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"accepted": 1, "refused": 1}, status=207)

    app = web.Application()
    app.router.add_post("/v1/events", answer)
    async with TestServer(app) as server:
        way = lane.http(server.make_url("/"), "key", lambda _: Request("POST", "/v1/events", b"{}"))
        async with way as lanes, lanes() as send:
            with pytest.raises(LoadError, match="only a part"):
                await send(PLAN)
