"""How fast the classifier counts events out of RabbitMQ, and answers questions meanwhile.

Each event takes the whole path: out of RabbitMQ, read, counted in a database, committed,
acknowledged. Either all events wait before the classifier starts (a flood), or they are published
at a set rate (a stream). Every domain is as likely as the others; of real ones most events are of
a few, whose rows are at hand, so this is the worst case.

Run as a module this publishes a stream: it reads a StreamTask as JSON from standard input and
writes the seconds that it took.
"""

import asyncio
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

import aiohttp
import orjson
import psutil
from sqlalchemy import Connection

from benchmarks import accept
from benchmarks.bench import Bench, BenchError, peak_memory
from benchmarks.report import Series
from ops import ports
from services.classifier.rule import Mode
from services.classifier.service import MIGRATIONS
from services.classifier.store import sql
from shared import delivery
from shared.broker import Broker
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    DomainsCounted,
    FeedbackReported,
    Kind,
    Sighting,
)
from shared.errors import NoAnswer
from shared.storage.database import Database
from shared.storage.dialect import MAX_ROWS, Row, execute

NAME = "bench"  # of our connection to the broker
SERVICE = (sys.executable, "-m", "services.classifier")
_MAX_PUBLISHING = 100  # messages at once
_ASK_SECONDS = 5.0
_PAUSE_SECONDS = 0.02  # between two questions
_FLOOD_SECONDS = 300.0  # for all of it
_STREAM_SECONDS = 120.0  # the same
_TICK_SECONDS = 0.005  # between two looks at the clock
_START = datetime(2026, 1, 1, tzinfo=UTC)
_BOUNCED_SHARE = 0.01  # of all events


@dataclass(frozen=True, slots=True)
class FloodPlan:
    """How many events of how many domains, so many in each message."""

    count: int
    domains: int
    size: int
    mode: Mode = Mode.COUNTS


@dataclass(frozen=True, slots=True)
class StreamTask:
    """Publish `count` events of so many domains, `size` a message and `rate` a second."""

    url: str
    count: int
    domains: int
    size: int
    rate: float
    mode: Mode


class Flood(NamedTuple):
    """One emptied queue: events a second, seconds of each answer, the most memory in octets.

    `processor` is the seconds of processor time for each event, which a busy machine moves less.
    `sums` are the seconds of each answer with the sums over all domains.
    """

    rate: float
    processor: float
    latencies: Sequence[float]
    sums: Sequence[float]
    memory: int


def series(plan: FloodPlan, floods: Sequence[Flood]) -> Series:
    """Return the measurements as a line of a table."""
    latencies = [each for flood in floods for each in flood.latencies]
    name = f"{plan.size:,} a message, {plan.domains:,} domains"
    return Series(name, [each.rate for each in floods], latencies)


async def flooded(bench: Bench, url: str | None, plan: FloodPlan) -> Flood:
    """Measure the classifier while it counts waiting events and is asked for domains.

    `url` is of an empty database, None for SQLite's file.
    """
    async with _prepared(bench, url, plan) as (_, broker, environment, health_port):
        await _publish(broker, plan)
        async with bench.running("classifier", SERVICE, environment) as process:
            await bench.listening("classifier", process, health_port)
            before = _processor_seconds(process.pid)
            async with asyncio.timeout(_FLOOD_SECONDS):
                rate, latencies, sums = await _watch_flood(broker, plan)
            spent = (_processor_seconds(process.pid) - before) / plan.count
            return Flood(rate, spent, latencies, sums, peak_memory(process.pid))


async def streamed(bench: Bench, url: str | None, plan: FloodPlan, rate: float) -> Series:
    """Publish the events of `plan`, `rate` a second, and ask for domains over HTTP meanwhile.

    Publisher, gateway and classifier have a process each. The rate of the series is that of
    counting, between the first answer and the last. `url` is of an empty database, None for
    SQLite's file.
    """
    async with (
        _prepared(bench, url, plan) as (amqp_url, broker, environment, health_port),
        bench.running("classifier", SERVICE, environment) as process,
        accept.running(bench, amqp_url) as gateway,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{gateway.port}", headers=gateway.headers, raise_for_status=True
        ) as session,
    ):
        await bench.listening("classifier", process, health_port)
        task = StreamTask(amqp_url, plan.count, plan.domains, plan.size, rate, plan.mode)
        publishing = asyncio.create_task(
            bench.ask("benchmarks.flood", asdict(task), _STREAM_SECONDS)
        )
        try:
            counted, latencies = await _watch_stream(broker, session, plan, publishing)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
    return Series(f"{rate:,.0f} a second, {plan.size:,} a message", [counted], latencies)


@asynccontextmanager
async def _prepared(
    bench: Bench, url: str | None, plan: FloodPlan
) -> AsyncIterator[tuple[str, Broker, Mapping[str, str], int]]:
    """Fill the database and open a vhost; the value has what a classifier there needs."""
    [health_port] = ports.unused(1)
    data = bench.directory / f"data-{health_port}"
    async with Database.open("classifier", url, data, MIGRATIONS) as database:
        await fill(database, plan.domains)
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        environment = {
            "AMQP_URL": amqp_url,
            "DATA_DIR": str(data),
            "HEALTH_PORT": str(health_port),
            "CLASSIFIER_MODE": plan.mode,
            **({"DATABASE_URL": url} if url else {}),
        }
        yield amqp_url, broker, environment, health_port


async def fill(database: Database, domains: int) -> None:
    """Store domains with one delivery each, whose id is forgotten."""
    for start in range(0, domains, MAX_ROWS):
        names = map(domain, range(start, min(start + MAX_ROWS, domains)))
        rows = [(name, 0, 0, 1, 0, 0, 0, 0) for name in names]
        await database.write(partial(_add, rows))
    sums = (domains, 0, 0, domains, 0)  # unknown and delivered
    await database.write(lambda connection: execute(connection, sql.ADD_TOTALS, sums))


def _add(rows: Sequence[Row], connection: Connection) -> None:
    sql.add(connection, rows, 1)


async def _publish(broker: Broker, plan: FloodPlan) -> None:
    made = sightings(plan.domains, mode=plan.mode)
    messages = (
        report(list(islice(made, min(plan.size, plan.count - start))))
        for start in range(0, plan.count, plan.size)
    )
    # All made at once they take so long that the broker misses our heartbeats.
    while some := list(islice(messages, _MAX_PUBLISHING)):
        await asyncio.gather(*map(broker.publish, some))


async def _watch_flood(
    broker: Broker, plan: FloodPlan
) -> tuple[float, Sequence[float], Sequence[float]]:
    """Ask for domains and sums until all is counted; return the rate and both latencies."""
    chance = random.Random(1)  # noqa: S311 -- no secret
    begun, first, latencies, sums = 0.0, 0, list[float](), list[float]()
    while True:
        asked = time.perf_counter()
        # Each domain has one delivery already.
        done, now = await _counted(broker) - plan.domains, time.perf_counter()
        sums.append(now - asked)
        if done and not begun:
            begun, first = now, done
        if done >= plan.count:
            break
        question = DescribeDomain(
            id=f"q-{len(latencies)}", domain=domain(chance.randrange(plan.domains))
        )
        asked = time.perf_counter()
        await broker.ask(question, within=_ASK_SECONDS)
        latencies.append(time.perf_counter() - asked)
        await asyncio.sleep(_PAUSE_SECONDS)
    if now == begun:
        raise BenchError("all events were counted at the first look: measure more of them")
    return (done - first) / (now - begun), latencies, sums


async def _watch_stream(
    broker: Broker,
    session: aiohttp.ClientSession,
    plan: FloodPlan,
    publishing: asyncio.Task[float],
) -> tuple[float, Sequence[float]]:
    """Ask while events are published; return the rate of counting and the latencies."""
    while await _counted(broker) == plan.domains:
        if publishing.done():
            problem = publishing.exception() or "measure more events"
            raise BenchError(f"no event was counted: {problem}")
        await asyncio.sleep(_PAUSE_SECONDS)
    chance = random.Random(1)  # noqa: S311 -- no secret
    first, begun, latencies = await _counted(broker), time.perf_counter(), list[float]()
    while not publishing.done():
        asked = time.perf_counter()
        async with session.get(f"/v1/domains/{domain(chance.randrange(plan.domains))}") as response:
            await response.read()
        latencies.append(time.perf_counter() - asked)
        await asyncio.sleep(_PAUSE_SECONDS)
    publishing.result()
    return (await _counted(broker) - first) / (time.perf_counter() - begun), latencies


async def _counted(broker: Broker) -> int:
    """Return how many events the classifier has counted, 0 while it does not answer."""
    try:
        sums = await broker.ask(CountDomains(id="q"), within=_ASK_SECONDS)
    except NoAnswer:
        return 0
    if not isinstance(sums, DomainsCounted):
        raise BenchError(f"not an answer to this question: {sums.routing_key}")
    return sums.delivered + sums.bounced


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def domain(number: int) -> str:
    """Return the domain of this number."""
    return f"domain{number:07d}.example"


def sightings(domains: int, seed: int = 0, mode: Mode = Mode.COUNTS) -> Iterator[Sighting]:
    """Yield events without an end, of the same domains for a seed, each time with new ids.

    In the mode `evidence` each is of another mail to another recipient.
    """
    chance, run = random.Random(seed), secrets.token_hex(4)  # noqa: S311 -- no secret
    for number in count():
        kind = Kind.BOUNCED if chance.random() < _BOUNCED_SHARE else Kind.DELIVERED
        name, mailed = domain(chance.randrange(domains)), mode is Mode.EVIDENCE
        yield Sighting.model_construct(
            id=f"{run}-{number}",
            domain=name,
            kind=kind,
            at=_START + timedelta(milliseconds=number),
            recipient=f"user{number}@{name}" if mailed else None,
            email_id=f"m-{run}-{number}" if mailed else None,
        )


def report(some: Sequence[Sighting]) -> FeedbackReported:
    """Return one message with all of the events."""
    return FeedbackReported.model_construct(
        id=f"r-{some[0].id}", at=some[0].at, client="bench", sightings=tuple(some)
    )


async def publish_stream(task: StreamTask) -> float:
    """Publish the events of a task; return the seconds until the last is confirmed."""
    made, size = sightings(task.domains, mode=task.mode), task.size
    # Messages are made before, so that the rate is that of publishing.
    items = [
        delivery.publishing(report(list(islice(made, size)))) for _ in range(task.count // size)
    ]
    async with Broker.connect(task.url, "stream") as broker, asyncio.TaskGroup() as group:
        begun, sent = time.perf_counter(), 0
        while sent < len(items):
            due = min(len(items), int((time.perf_counter() - begun) * task.rate / size) + 1)
            for item in items[sent:due]:
                group.create_task(broker.send(item))
            sent = due
            await asyncio.sleep(_TICK_SECONDS)
    return time.perf_counter() - begun


if __name__ == "__main__":
    given: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    seconds = asyncio.run(publish_stream(StreamTask(**{**given, "mode": Mode(given["mode"])})))
    sys.stdout.buffer.write(orjson.dumps(seconds))
