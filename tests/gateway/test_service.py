"""The running gateway: its end, its limits, and other services that are away."""

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from ops.broker import RabbitServer as Node
from services.gateway import service
from shared import topology
from shared.contracts import AddSuppressions, Category, SendEmail, SuppressionsChanged
from shared.links import LinkedSubscription, LinkKind, Links, link_end
from shared.runtime.sealing import Sealer
from tests.gateway.api_client import LINK_KEY, MAIL, ApiClient, declare, running, settings
from tests.gateway.fake_service import FakeService, running_service
from tests.tap import depth
from tests.waiting import PATIENCE_SECONDS

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)


async def test_an_unanswered_question_is_a_503(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A question without an answer is a 503 after the set seconds."""
    await declare(vhost)
    quick = settings(vhost, tmp_path, gateway_answer_seconds=0.3)
    async with running(quick, http) as api:
        begun = time.monotonic()
        answer = await api.call("GET", "/v1/domains/one.example")

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert answer.json["detail"].endswith("Asking again does no harm.")
    assert time.monotonic() - begun >= 0.3


async def test_a_body_that_does_not_come_is_not_waited_for(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A client that stops in the middle of a body gets a 408, and the connection is closed."""
    await declare(vhost)
    impatient = settings(vhost, tmp_path, gateway_body_seconds=0.3)
    async with running(impatient, http) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {api.key}\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert b" 408 " in head.splitlines()[0]
    assert b"connection: close" in head.lower()


async def test_stopping_answers_what_is_under_way(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """SIGTERM ends waits with a 202, loses no accepted message and closes the port."""
    await declare(vhost)
    stop, sender = asyncio.Event(), FakeService()
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        async with service.serving(settings(vhost, tmp_path), stop) as port:
            api = await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
            asking = asyncio.create_task(api.post("/v1/messages", MAIL, {"Prefer": "wait=30"}))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await sender.asked.wait()
            begun = time.monotonic()
            stop.set()
        answer = await asking

    assert time.monotonic() - begun < 30
    assert (answer.status, answer.json) == (202, {"id": sender.got[0].id, "status": "accepted"})
    with pytest.raises(aiohttp.ClientConnectorError):
        await api.call("GET", "/ping")


async def test_a_cancelled_service_does_not_wait(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A cancelled service does not wait for a request under way."""
    await declare(vhost)
    stop, opened = asyncio.Event(), asyncio.Queue[int]()

    async def serve() -> None:
        async with service.serving(settings(vhost, tmp_path, drain_seconds=600), stop) as port:
            opened.put_nowait(port)
            await stop.wait()

    serving = asyncio.create_task(serve())
    port = await opened.get()
    api = await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + f"Authorization: Bearer {api.key}\r\nContent-Length: 100\r\n\r\n{{".encode()
    )
    await api.call("GET", "/ping")  # the other request is being read by now
    stop.set()
    await asyncio.wait({serving}, timeout=0.2)
    waits = not serving.done()
    serving.cancel()
    await asyncio.wait({serving}, timeout=PATIENCE_SECONDS)

    writer.close()

    assert waits
    assert serving.cancelled()


@pytest.mark.restarts
async def test_a_broker_that_is_away_is_a_503_and_its_return_is_noticed(
    api: ApiClient, vhost: str, rabbit: Node
) -> None:
    """Without the broker each request is a 503; once it is back, requests are accepted."""
    assert (await api.post("/v1/messages", MAIL)).status == 202
    await asyncio.to_thread(rabbit.kill)
    try:
        begun = time.monotonic()
        answers = await asyncio.gather(
            *(api.post("/v1/messages", MAIL, {"Prefer": f"wait={n}"}) for n in (0, 0, 20)),
            api.post("/v1/otp/verify", {"email": "a@x.example", "code": "1"}),
            api.call("PUT", "/v1/events/one.example/delivered"),
        )
        waited = time.monotonic() - begun
        ready = await api.call("GET", "/readyz")
    finally:
        await asyncio.to_thread(rabbit.start)

    assert [answer.status for answer in answers] == [503] * 5
    assert all("Retry-After" in answer.headers for answer in answers)
    assert waited < 20  # what one of them was ready to wait
    assert (ready.status, ready.json["checks"]["broker"]) == (503, False)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await api.post("/v1/messages", MAIL)).status != 202:
            pass
    # After a 503 the message may be on the queue as well.
    assert await depth(vhost, TRANSACTIONAL) >= 2


async def test_a_client_may_ask_as_often_as_its_quota_says(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A client over its quota gets a 429 at every gateway; other clients do not."""
    await declare(vhost)
    given = settings(vhost, tmp_path, gateway_client_rate=0.001)
    async with (
        service.serving(given, asyncio.Event()) as port,
        service.serving(given, asyncio.Event()) as second,
    ):
        shop = await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
        bank = await shop.registered("bank")
        elsewhere = ApiClient(http, f"http://127.0.0.1:{second}", shop.key)
        answers = [await each.post("/v1/messages", MAIL) for each in (shop, shop, elsewhere, bank)]

    assert [answer.status for answer in answers] == [202, 429, 429, 202]
    assert 0 < int(answers[1].headers["Retry-After"]) <= 1000
    assert {each.headers["RateLimit-Policy"] for each in answers} == {'"default";q=1;w=1000'}
    assert answers[0].headers["RateLimit"] == '"default";r=0;t=1000'
    for refused in answers[1:3]:
        assert refused.json["code"] == "quota-exceeded"
        assert refused.json["type"].endswith("http-problem-types#quota-exceeded")
        assert refused.json["violated-policies"] == ["default"]
        assert refused.headers["RateLimit"] == (f'"default";r=0;t={refused.headers["Retry-After"]}')


async def test_an_answer_says_how_many_requests_are_left(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """Errors have the fields too; the administrator and the public, who have no quota, do not."""
    await declare(vhost)
    given = settings(vhost, tmp_path, gateway_client_rate=1000)
    async with running(given, http) as shop:
        first = await shop.post("/v1/messages", MAIL)
        second = await shop.post("/v1/messages", {})
        others = [
            await shop.call("GET", "/ping"),
            await shop.admin.call("GET", "/v1/clients"),
            await shop.with_key("").post("/v1/messages", MAIL),
        ]

    assert (first.status, second.status) == (202, 422)
    for each in (first, second):
        assert re.fullmatch(r'"default";r=\d+;t=1', each.headers["RateLimit"])
    assert not any("RateLimit" in each.headers for each in others)


async def test_a_client_with_large_bodies_in_flight_starves_no_other(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A client with too many large bodies gets a 503 for the next; all others are served."""
    await declare(vhost)
    size = 64 * 1024
    given = settings(vhost, tmp_path, gateway_max_body=size, gateway_max_bodies=2 * size)
    large = MAIL | {"text": "x" * (size - 1024)}
    async with running(given, http) as shop:
        bank = await shop.registered("bank")
        _, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {shop.key}\r\nContent-Length: {size}\r\n\r\n{{".encode()
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (refused := await shop.post("/v1/messages", large)).status == 202:
                pass
        served = [
            (await shop.post("/v1/messages", MAIL)).status,
            (await bank.post("/v1/messages", large)).status,
        ]
        writer.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await shop.post("/v1/messages", large)).status != 202:
                pass

    assert (refused.status, refused.json["code"]) == (503, "overloaded")
    assert refused.headers["Retry-After"] == "1"
    assert served == [202, 202]


async def test_links_of_an_older_key_work(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A gateway opens the links of each key that it still has, and of no other."""
    await declare(vhost)
    newer, removed = "9a8b" * 16, "6e5f" * 16
    ledger = FakeService(lambda asked: [SuppressionsChanged(id=asked.id, suppressions=())])
    rotated = settings(vhost, tmp_path, link_key=f"{newer},{LINK_KEY}")
    ann = LinkedSubscription(
        kind=LinkKind.UNSUBSCRIBE,
        email="ann@example.org",
        content_type="news",
        expires_at=link_end(datetime.now(UTC)),
    )
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {AddSuppressions: ledger}),
        service.serving(rotated, asyncio.Event()) as port,
    ):
        api, opted_out = ApiClient(http, f"http://127.0.0.1:{port}"), []
        for key in (newer, LINK_KEY, removed):
            path = Links("", Sealer.from_text(key)).to(ann)
            assert (await api.call("POST", path, data=b"")).status == 200
            opted_out.append(len(ledger.got))

    assert opted_out == [1, 2, 2]
