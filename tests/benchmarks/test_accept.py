"""The measurement of the gateway counts right: a real gateway, few requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from benchmarks import accept
from benchmarks.accept import HttpPlan, HttpTask
from benchmarks.bench import Bench
from shared.runtime import health

pytestmark = pytest.mark.rabbit


@pytest.mark.journey
async def test_every_accepted_message_is_on_the_queue(bench: Bench) -> None:
    """A measured load has as many latencies as requests, and as many commands as answers."""
    measured = await accept.measure(bench, HttpPlan(count=50, connections=3, repetitions=2))

    _, _, batches, pings = measured
    assert [len(each.latencies) for each in measured] == [100, 100, 2, 100]
    assert {len(each.rates) for each in measured} == {2}
    assert all(each.rate > 0 for each in measured)
    assert batches.rate > 1 / max(batches.latencies)
    assert pings.rate > 0


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
        task = HttpTask(port, "POST", "/v1/x", 50, 7, {"X-Key": "k"}, '{"naïve": 1}')
        seen = await accept.call(task)

    assert asked == ['POST /v1/x k {"naïve": 1}'] * 50
    assert seen["statuses"] == {"202": 50}
    assert len(seen["latencies"]) == 50


async def test_refusals_are_not_taken_for_answers() -> None:
    """Each status is counted by itself."""
    async with answering(200, 503) as (port, _):
        seen = await accept.call(HttpTask(port, "GET", "/ping", 10, 1))

    assert seen["statuses"] == {"200": 5, "503": 5}


async def test_each_request_may_have_a_key_of_its_own() -> None:
    """A gateway must not take one request for a repeat of another."""
    async with answering(200) as (port, asked):
        task = HttpTask(port, "POST", "/", 3, 2, {"X-Key": "k"}, "a", keys="run-")
        await accept.call(task)
    sent = [request.decode() for request in task.requests()]

    assert len(asked) == 3
    assert [each.partition("Idempotency-Key: ")[2].split()[0] for each in sent] == [
        *("run-0", "run-1", "run-2")
    ]


async def test_more_connections_than_requests_do_no_harm() -> None:
    """A connection that finds nothing to do closes."""
    async with answering(200) as (port, asked):
        await accept.call(HttpTask(port, "GET", "/ping", 2, 5))

    assert len(asked) == 2


async def test_each_request_may_have_a_body_of_its_own() -> None:
    """Every body is sent once; an answer without the expected text counts for itself."""
    async with answering(200) as (port, asked):
        task = HttpTask(port, "POST", "/", 3, 2, bodies=["a", "b", "c"], expected="xxx")
        seen = await accept.call(task)
        other = await accept.call(HttpTask(port, "POST", "/", 1, 1, expected="yyy"))

    assert sorted(each.split()[-1] for each in asked[:3]) == ["a", "b", "c"]
    assert seen["statuses"] == {"200": 3}
    assert other["statuses"] == {"200 of another text": 1}
