"""The load generator: it sends what it is asked to and counts what it gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from benchmarks import load
from benchmarks.load import Task
from shared.runtime import health


@asynccontextmanager
async def answering(*statuses: int) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve these statuses in turn; give the port and what was asked."""
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
        task = Task(port, "POST", "/v1/x", 50, 7, {"X-Key": "k"}, '{"naïve": 1}')
        seen = await load.call(task)

    assert asked == ['POST /v1/x k {"naïve": 1}'] * 50
    assert seen["statuses"] == {"202": 50}
    assert len(seen["latencies"]) == 50


async def test_refusals_are_not_taken_for_answers() -> None:
    """Each status is counted by itself."""
    async with answering(200, 503) as (port, _):
        seen = await load.call(Task(port, "GET", "/ping", 10, 1))

    assert seen["statuses"] == {"200": 5, "503": 5}


async def test_more_connections_than_requests_do_no_harm() -> None:
    """A connection that finds nothing to do closes."""
    async with answering(200) as (port, asked):
        await load.call(Task(port, "GET", "/ping", 2, 5))

    assert len(asked) == 2


async def test_each_request_may_have_a_body_of_its_own() -> None:
    """Every body is sent once; an answer without the expected text counts for itself."""
    async with answering(200) as (port, asked):
        task = Task(port, "POST", "/", 3, 2, bodies=["a", "b", "c"], expected="xxx")
        seen = await load.call(task)
        other = await load.call(Task(port, "POST", "/", 1, 1, expected="yyy"))

    assert sorted(each.split()[-1] for each in asked[:3]) == ["a", "b", "c"]
    assert seen["statuses"] == {"200": 3}
    assert other["statuses"] == {"200 of another text": 1}
