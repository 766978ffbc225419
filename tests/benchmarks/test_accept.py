"""The measurement of the gateway counts right: a real gateway, few requests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web
from yarl import URL

from benchmarks import accept
from benchmarks.accept import HttpLoad
from benchmarks.bench import Bench, BenchError, BenchPlan
from benchmarks.services import MeasuredGateway
from ops.load.http import encode_request
from shared.runtime import health

pytestmark = pytest.mark.rabbit


@pytest.mark.journey
async def test_every_accepted_message_is_on_the_queue(bench: Bench) -> None:
    """A measured load has as many latencies as requests, and as many commands as answers."""
    found = await accept.measure(bench, BenchPlan(count=50, callers=3, repetitions=2))

    assert list(found) == [*accept.kinds()]
    assert [len(each.latencies) for each in found.values()] == [100, 100, 2, 2, 100]
    assert {len(each.rates) for each in found.values()} == {2}
    assert all(each.rate > 0 for each in found.values())
    for name in (accept.BATCHES, accept.TEMPLATED):
        assert found[name].rate > 1 / max(found[name].latencies)


def test_each_request_may_have_a_key_of_its_own() -> None:
    """A gateway must not take one request for a repeat of another."""
    gateway = MeasuredGateway(80, "secret")
    keyed, plain = (
        accept.kinds()[name].load(gateway, 3, 1) for name in (accept.KEYED, accept.SINGLE)
    )
    again = accept.kinds()[accept.KEYED].load(gateway, 3, 1)
    keys = [each.partition(b"Idempotency-Key: ")[2].split()[0] for each in keyed.requests]

    assert len(set(keys)) == 3
    assert set(keyed.requests).isdisjoint(again.requests)
    assert b"Idempotency-Key" not in plain.requests[0]


@pytest.mark.parametrize(("name", "mails"), [(accept.BATCHES, 6000), (accept.TEMPLATED, 6000)])
def test_batches_have_more_mails_in_fewer_requests(name: str, mails: int) -> None:
    """Each request has as many mails as its kind says, all of about the size of a single one."""
    kind = accept.kinds()[name]
    load = kind.load(MeasuredGateway(80, "secret"), mails // accept.BATCH_FACTOR, 1)
    body = orjson.loads(load.requests[0].partition(b"\r\n\r\n")[2])

    assert len(load.requests) * kind.mails == mails
    assert len(body.get("messages") or body["recipients"]) == kind.mails == accept.BATCH_SIZE


def requests(count: int, bodies: Sequence[str] = ("",)) -> list[bytes]:
    """Return requests with these bodies in turn."""
    url, headers = URL("http://127.0.0.1/v1/x"), {"X-Key": "k"}
    return [
        encode_request("POST", url, headers, bodies[n % len(bodies)].encode()) for n in range(count)
    ]


@asynccontextmanager
async def answering(*statuses: int) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve these statuses in turn; the value is the port and the requests."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        text = await request.text()
        asked.append(f"{request.method} {request.path} {request.headers.get('X-Key')} {text}")
        return web.Response(status=statuses[len(asked) % len(statuses)], text="x" * 100_000)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with health.serving(app, "127.0.0.1", 0, drain=1) as port:
        yield port, asked


async def test_sends_exactly_as_many_as_asked() -> None:
    """All connections together send the count, each request whole."""
    async with answering(202) as (port, asked):
        seen = await accept.send(HttpLoad(port, requests(50, ['{"naïve": 1}']), 7))

    assert asked == ['POST /v1/x k {"naïve": 1}'] * 50
    assert seen.statuses == {"202": 50}
    assert len(seen.latencies) == 50


async def test_refusals_are_not_taken_for_answers() -> None:
    """Each status is counted by itself."""
    async with answering(200, 503) as (port, _):
        seen = await accept.send(HttpLoad(port, requests(10), 1))

    assert seen.statuses == {"200": 5, "503": 5}


async def test_a_load_with_another_status_is_no_measurement(bench: Bench) -> None:
    """The error names the request, and counts the answers."""
    async with answering(200, 503) as (port, _):
        with pytest.raises(BenchError, match="POST /v1/x was answered by"):
            await accept.answers(bench, HttpLoad(port, requests(2), 1))


async def test_more_connections_than_requests_do_no_harm() -> None:
    """A connection that finds nothing to do closes."""
    async with answering(200) as (port, asked):
        await accept.send(HttpLoad(port, requests(2), 5))

    assert len(asked) == 2


async def test_each_request_may_have_a_body_of_its_own() -> None:
    """Every body is sent once; an answer without the expected text counts for itself."""
    async with answering(200) as (port, asked):
        seen = await accept.send(HttpLoad(port, requests(3, ["a", "b", "c"]), 2, b"xxx"))
        other = await accept.send(HttpLoad(port, requests(1), 1, b"yyy"))

    assert sorted(each.split()[-1] for each in asked[:3]) == ["a", "b", "c"]
    assert seen.statuses == {"200": 3}
    assert other.statuses == {"200 of another text": 1}
