"""How fast the status of a domain is answered over HTTP while events pour in at a set rate.

Each has a process of its own: who pours, who asks (that is us), the gateway and the classifier.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import asdict

import aiohttp

from benchmarks import accept, count, events, flood, pour
from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.report import Series
from ops import ports
from services.classifier.service import MIGRATIONS
from shared.broker import Broker
from shared.storage.database import Database

_LOOK_SECONDS = 0.01  # between two questions
_WITHIN = 120.0  # seconds for all of it


async def streamed(bench: Bench, url: str | None, plan: flood.Plan, rate: float) -> Series:
    """Pour the events of `plan` in, `rate` a second, and ask for domains meanwhile.

    The rate that is told is that of counting, between the first answer and the last. `url` is of
    an empty database, None for SQLite's file.
    """
    [health_port] = ports.unused(1)
    data = bench.directory / f"data-{health_port}"
    async with Database.open("classifier", url, data, MIGRATIONS) as database:
        await count.fill(database, plan.domains)
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, flood.NAME) as broker:
        environment = flood.settings(amqp_url, url, data, health_port, plan.mode)
        async with (
            bench.running("classifier", flood.SERVICE, environment) as process,
            accept.running(bench, amqp_url) as gateway,
            aiohttp.ClientSession(
                f"http://127.0.0.1:{gateway.port}", headers=gateway.headers, raise_for_status=True
            ) as session,
        ):
            await bench.listening("classifier", process, health_port)
            task = pour.Task(amqp_url, plan.count, plan.domains, plan.size, rate, plan.mode)
            pouring = asyncio.create_task(bench.ask(pour.NAME, asdict(task), _WITHIN))
            try:
                counted, latencies = await _watched(broker, session, plan, pouring)
            finally:
                pouring.cancel()
                await asyncio.gather(pouring, return_exceptions=True)
    return Series(f"{rate:,.0f} a second, {plan.size:,} a message", [counted], latencies)


async def _watched(
    broker: Broker, session: aiohttp.ClientSession, plan: flood.Plan, pouring: asyncio.Task[float]
) -> tuple[float, Sequence[float]]:
    """Ask while events are poured; give the rate of counting and the time of each answer."""
    while await flood.counted(broker) == plan.domains:  # each has one delivery already
        if pouring.done():
            raise BenchError(f"nothing was counted; {pouring.exception() or 'take more events'}")
        await asyncio.sleep(_LOOK_SECONDS)
    chance = random.Random(1)  # noqa: S311 -- no secret
    first, begun, latencies = await flood.counted(broker), time.perf_counter(), list[float]()
    while not pouring.done():
        path = f"/v1/domains/{events.domain(chance.randrange(plan.domains))}"
        asked = time.perf_counter()
        async with session.get(path) as response:
            await response.read()
        latencies.append(time.perf_counter() - asked)
        await asyncio.sleep(_LOOK_SECONDS)
    pouring.result()
    return (await flood.counted(broker) - first) / (time.perf_counter() - begun), latencies
