"""How fast events reach 1,000 endpoints of which 50 hang, and how late they reach the others.

A receiver of its own process, over https. Each event goes to one endpoint. The events are published
at the rate that is wanted; a request's lag is from the event's time to its arrival.
"""

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import orjson
from aiohttp import web

from benchmarks import report
from benchmarks.bench import Bench, BenchError, BenchPlan, load_average
from benchmarks.report import Series
from benchmarks.services import Vhost, database
from ops import ports
from shared.contracts import (
    Category,
    CreateWebhook,
    EmailDelivered,
    WebhookAnswered,
)
from shared.contracts.fields import Tag
from shared.topology import Owner

ENDPOINTS = 1000
HANGING = 50  # of them
WANTED_RATE = 1000  # events a second
WANTED_P99_SECONDS = 1.0
SECONDS = 20  # of each repetition
_PARTS = 20  # of a second
_ANSWER_SECONDS = 30.0
_END_SECONDS = 120.0  # for the last to arrive


async def receive(folder: str, port: int, hanging: int, expected: int) -> list[tuple[float, float]]:
    """Answer requests until so many have come; return the time of each and its lag, in seconds.

    The first endpoints hang, and what they get is not counted.
    """
    found = list[tuple[float, float]]()
    all_there = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        if int(request.match_info["number"]) < hanging:
            await all_there.wait()
            return web.Response()
        now, event = time.time(), orjson.loads(body)
        found.append((now, now - datetime.fromisoformat(event["timestamp"]).timestamp()))
        if len(found) >= expected:
            all_there.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/{number}", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(folder) / "cert.pem", Path(folder) / "key.pem")
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        async with asyncio.timeout(_END_SECONDS + 2 * SECONDS):
            await all_there.wait()
    finally:
        await runner.cleanup()
    return found


async def delivered(bench: Bench, name: str, endpoints: int, seconds: int) -> Series:
    """Measure a service for so many seconds. Raises BenchError if events are lost."""
    hanging = HANGING if endpoints > HANGING else 0
    data = bench.directory / f"webhooks-{secrets.token_hex(4)}"
    data.mkdir()
    await _certify(data)
    [port] = ports.unused(1)
    count = WANTED_RATE * seconds
    expected = sum(number % endpoints >= hanging for number in range(count))
    async with Vhost.opened(bench, (Owner.WEBHOOKS,)) as vhost, database(bench, name) as settings:
        own = {
            "WEBHOOKS_ALLOW_NETWORKS": '["127.0.0.0/8"]',
            "WEBHOOKS_CA_FILE": str(data / "cert.pem"),
            "WEBHOOKS_MAX_ENDPOINTS": "10000",
        }
        async with vhost.running("webhooks", data, **settings, **own):
            for number in range(endpoints):
                await _add(vhost, number, port)
            load = str(data), port, hanging, expected
            receiving = asyncio.create_task(bench.call(receive, *load))
            async with asyncio.timeout(_ANSWER_SECONDS):
                while ports.is_free(port):  # noqa: ASYNC110 -- of another process
                    await asyncio.sleep(1 / _PARTS)
            await _publish(vhost, endpoints, count)
            found = sorted(await receiving)
    if len(found) != expected:
        raise BenchError(f"{len(found)} requests came, of {expected}")
    rate = len(found) / (found[-1][0] - found[0][0])
    return Series(f"{endpoints:,} endpoints, {hanging} hang", [rate], [lag for _, lag in found])


async def _certify(folder: Path) -> None:
    """Make a certificate for this host. Raises BenchError."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise BenchError("openssl made no certificate")


async def _add(vhost: Vhost, number: int, port: int) -> None:
    """Add an endpoint for the events with a tag of its own."""
    asked = CreateWebhook(
        id=f"w{number}",
        url=f"https://127.0.0.1:{port}/{number}",
        events=("email.delivered",),
        tags=(f"n:{number}",),
    )
    answer = await vhost.broker.ask(asked, _ANSWER_SECONDS)
    if not isinstance(answer, WebhookAnswered) or answer.webhook is None:
        raise BenchError("an endpoint was not added")


async def _publish(vhost: Vhost, endpoints: int, count: int) -> None:
    """Publish events at the wanted rate."""
    part, begun = WANTED_RATE // _PARTS, time.perf_counter()
    for start in range(0, count, part):
        events = [_event(number, endpoints) for number in range(start, start + part)]
        if await vhost.broker.publish_all(events):
            raise BenchError("events were not confirmed")
        ahead = (start + part) / WANTED_RATE - (time.perf_counter() - begun)
        await asyncio.sleep(max(0.0, ahead))


def _event(number: int, endpoints: int) -> EmailDelivered:
    return EmailDelivered(
        id=f"e{number}",
        at=datetime.now(UTC),
        email_id=f"m{number}",
        category=Category.TRANSACTIONAL,
        recipient=f"user{number}@example.org",
        attempt=1,
        tags=(Tag(name="n", value=str(number % endpoints)),),
    )


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure each database; yield tables and verdicts."""
    for name in plan.databases:
        yield f"\n{WANTED_RATE:,} events a second, in {name}; {load_average()}"
        found = [await delivered(bench, name, ENDPOINTS, SECONDS) for _ in range(plan.repetitions)]
        lags = [lag for each in found for lag in each.latencies]
        series = Series(found[0].name, [median(each.rate for each in found)], lags)
        yield report.table("requests/s", [series])
        # Of the events, one in twenty goes to an endpoint that hangs.
        wanted = WANTED_RATE * (ENDPOINTS - HANGING) / ENDPOINTS * 0.98
        yield report.fast(series, wanted, WANTED_P99_SECONDS)
