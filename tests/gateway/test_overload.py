"""More requests than can be answered: a blocked broker, a full queue, and the limit in flight."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from ops.broker import RabbitServer
from ops.node import RabbitNode
from services.gateway import service
from shared import topology
from shared.contracts import Category, SendEmail
from shared.rabbitmq import publisher
from tests.gateway.api_client import MAIL, ApiClient, ApiResponse, declare, running, settings
from tests.gateway.fake_service import FakeService, running_service
from tests.waiting import PATIENCE_SECONDS, until

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
BLOCKED_SECONDS = 3.0  # without an answer from a broker on this machine

Posting = asyncio.Task[ApiResponse]


@pytest.fixture
def node(rabbit: RabbitServer) -> RabbitNode:
    """Return the broker when it is a node of this machine, whose alarms a test can raise."""
    if not isinstance(rabbit, RabbitNode):
        pytest.skip("the broker is a container, without rabbitmqctl here")
    return rabbit


def control(node: RabbitNode, *command: str) -> None:
    """Run rabbitmqctl on a node."""
    program = node._programs.server.with_name("rabbitmqctl")
    subprocess.run(  # noqa: S603 -- found beside the server
        (program, *command),
        env={**os.environ, **node._environment()},
        check=True,
        capture_output=True,
        timeout=60,
    )


@contextmanager
def memory_alarm(node: RabbitNode) -> Iterator[None]:
    """Block all publishers of the node until the block is left."""
    control(node, "set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        control(node, "set_vm_memory_high_watermark", "0.4")


async def post(api: ApiClient, key: str) -> ApiResponse:
    """Send a mail that may be sent again."""
    return await api.post("/v1/messages", MAIL, {"Idempotency-Key": key})


async def blocked(api: ApiClient, wanted: int) -> Mapping[str, Posting]:
    """Post mails until so many have no answer; return all of them by their keys."""
    # The broker blocks a connection at the first publish after its alarm, which it still takes.
    posting: dict[str, Posting] = {}
    for number in count():
        if sum(not each.done() for each in posting.values()) == wanted:
            return posting
        posting[f"k{number}"] = asyncio.create_task(post(api, f"k{number}"))
        await asyncio.wait((posting[f"k{number}"],), timeout=BLOCKED_SECONDS)
    raise AssertionError


async def kept(vhost: str, wanted: int) -> Sequence[str]:
    """Return the ids of all mails on the queue, once there are so many different ones."""
    sender = FakeService()
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):

        async def arrived() -> bool:
            return len({each.id for each in sender.got}) >= wanted

        await until(arrived)
    return [each.id for each in sender.got]


async def test_a_broker_that_blocks_is_a_503_and_no_mail_is_lost(
    vhost: str,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    node: RabbitNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an alarm of memory requests end with a 503 in time; repeated later, each is one id.

    Requests beyond the limit are refused at once, and health and metrics are still answered.
    """
    # Two requests wait for so long that a third one finds no place, one after the other.
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 4 * BLOCKED_SECONDS)
    await declare(vhost)
    limited = settings(vhost, tmp_path, gateway_max_requests=2)
    async with running(limited, http) as api:
        with memory_alarm(node):
            posting = await blocked(api, 2)
            begun = time.monotonic()
            refused = await post(api, "k-refused")
            at_once = time.monotonic() - begun
            health = [(await api.call("GET", f"/{path}")).status for path in ("healthz", "metrics")]
            metrics = (await api.call("GET", "/metrics")).content.decode()
            answers = await asyncio.gather(*posting.values())
            waited = time.monotonic() - begun
        keys = [*posting, "k-refused"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await post(api, "k-refused")).status != 202:
                pass
        repeated = [await post(api, key) for key in keys]
    ids = await kept(vhost, len(keys))

    assert (refused.status, refused.json["code"]) == (503, "overloaded")
    assert refused.json["type"] == REDUCED_CAPACITY
    assert int(refused.headers["Retry-After"]) > 0
    assert at_once < BLOCKED_SECONDS
    assert health == [200, 200]
    assert "postrider_http_requests_in_flight 2.0" in metrics
    assert "postrider_http_requests_refused_total" in metrics
    assert {answer.status for answer in answers[-2:]} == {503}
    assert all(answer.json["code"] == "unavailable" for answer in answers if answer.status == 503)
    assert all("Retry-After" in answer.headers for answer in answers if answer.status == 503)
    assert waited < PATIENCE_SECONDS
    assert {answer.status for answer in repeated} == {202}
    assert set(ids) == {answer.json["id"] for answer in repeated}


async def test_a_full_queue_is_a_503_until_it_has_room(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A full queue refuses at once with Retry-After; each accepted mail is kept, and no other."""
    await declare(vhost, max_length=5)
    async with running(settings(vhost, tmp_path), http) as api:
        begun = time.monotonic()
        answers = [await post(api, f"k{number}") for number in range(20)]
        waited = time.monotonic() - begun
        accepted = [answer.json["id"] for answer in answers if answer.status == 202]
        first = await kept(vhost, len(accepted))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (repeated := await post(api, "k19")).status != 202:
                pass
    second = await kept(vhost, 1)

    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {202, 503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert waited < len(refused) * publisher.PUBLISH_SECONDS  # without a wait for each of them
    assert sorted(first) == sorted(accepted)
    assert second == [repeated.json["id"]]


async def test_waits_leave_half_of_the_places_to_others(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A client waits for an outcome only while half of the places are free; else it gets a 202."""
    await declare(vhost)
    stop, sender = asyncio.Event(), FakeService()
    limited = settings(vhost, tmp_path, gateway_max_requests=4)
    async with (
        running_service(vhost, TRANSACTIONAL, {SendEmail: sender}),
        service.serving(limited, stop) as port,
    ):
        api = await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
        wait = {"Prefer": "wait=30"}
        waiting = [asyncio.create_task(api.post("/v1/messages", MAIL, wait)) for _ in range(2)]

        async def both_wait() -> bool:
            return len(sender.got) == 2

        await until(both_wait)
        third = await api.post("/v1/messages", MAIL, wait)
        still = [each.done() for each in waiting]
        stop.set()
        await asyncio.gather(*waiting)

    assert still == [False, False]
    assert third.status == 202
    assert "Preference-Applied" not in third.headers
