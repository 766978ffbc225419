"""How fast the classifier counts events out of RabbitMQ, and answers questions meanwhile.

Each event takes the whole path: out of RabbitMQ, read, counted in a database, committed,
acknowledged. All events wait before the classifier starts. Every domain is as likely as the others;
of real ones most events are of a few, whose rows are at hand, so this is the worst case.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from sqlalchemy import Connection

from benchmarks import report
from benchmarks.bench import SQLITE, Bench, BenchError, BenchPlan, load_average
from benchmarks.report import Series
from benchmarks.services import Vhost, database
from services.classifier.service import MIGRATIONS
from services.classifier.store import sql
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

WANTED_SINGLY, WANTED_TOGETHER = 8000, 80_000  # events a second through RabbitMQ
WANTED_P99_SECONDS = 0.005  # of an answer
MAX_SLOWER_SHARE = 0.15  # with the most domains, beside the fewest
SIZES = ((1, WANTED_SINGLY), (1000, WANTED_TOGETHER))  # events a message
TOGETHER_FACTOR = 10  # as many events in a flood of large messages
_ASK_SECONDS = 5.0
_PAUSE_SECONDS = 0.02  # between two questions
_FLOOD_SECONDS = 300.0  # for all of it
_START = datetime(2026, 1, 1, tzinfo=UTC)
_BOUNCED_SHARE = 0.01  # of all events


@dataclass(frozen=True, slots=True)
class FloodPlan:
    """How many events of how many domains, so many in each message, into which database."""

    count: int
    domains: int
    size: int
    database: str = SQLITE


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


async def flooded(bench: Bench, plan: FloodPlan) -> Flood:
    """Measure the classifier while it counts waiting events and is asked for domains."""
    data, made = bench.directory / f"domains-{secrets.token_hex(4)}", sightings(plan.domains)
    async with Vhost.opened(bench) as vhost, database(bench, plan.database) as settings:
        await fill(settings.get("DATABASE_URL"), data, plan.domains)
        await vhost.publish(
            report_of(list(islice(made, min(plan.size, plan.count - start))))
            for start in range(0, plan.count, plan.size)
        )
        async with vhost.running("classifier", data, **settings) as classifier:
            before = classifier.processor
            async with asyncio.timeout(_FLOOD_SECONDS):
                rate, latencies, sums = await _watch_flood(vhost.broker, plan)
            spent = (classifier.processor - before) / plan.count
            return Flood(rate, spent, latencies, sums, classifier.memory)


async def fill(url: str | None, data: Path, domains: int) -> None:
    """Store domains with one delivery each, whose id is forgotten, in an empty database."""
    async with Database.open("classifier", url, data, MIGRATIONS) as opened:
        for start in range(0, domains, MAX_ROWS):
            names = map(domain, range(start, min(start + MAX_ROWS, domains)))
            await opened.write(partial(_add, [(name, 0, 0, 1, 0, 0, 0, 0) for name in names]))
        sums = (domains, 0, 0, domains, 0)  # unknown and delivered
        await opened.write(lambda connection: execute(connection, sql.ADD_TOTALS, sums))


def _add(rows: Sequence[Row], connection: Connection) -> None:
    sql.add(connection, rows, 1)


async def _watch_flood(
    broker: Broker, plan: FloodPlan
) -> tuple[float, Sequence[float], Sequence[float]]:
    """Ask for domains and sums until all is counted; return the rate and both latencies."""
    begun, first, latencies, sums = 0.0, 0, list[float](), list[float]()
    for name in asked_domains(plan.domains):
        asked = time.perf_counter()
        # Each domain has one delivery already.
        done, now = await _counted(broker) - plan.domains, time.perf_counter()
        sums.append(now - asked)
        if done and not begun:
            begun, first = now, done
        if done >= plan.count:
            break
        asked = time.perf_counter()
        question = DescribeDomain(id=f"q-{len(latencies)}", domain=name)
        await broker.ask(question, within=_ASK_SECONDS)
        latencies.append(time.perf_counter() - asked)
        await asyncio.sleep(_PAUSE_SECONDS)
    if now == begun:
        raise BenchError("all events were counted at the first look: measure more of them")
    return (done - first) / (now - begun), latencies, sums


async def _counted(broker: Broker) -> int:
    """Return how many events the classifier has counted, 0 while it does not answer."""
    try:
        sums = await broker.ask(CountDomains(id="q"), within=_ASK_SECONDS)
    except NoAnswer:
        return 0
    if not isinstance(sums, DomainsCounted):
        raise BenchError(f"not an answer to this question: {sums.routing_key}")
    return sums.delivered + sums.bounced


def domain(number: int) -> str:
    """Return the domain of this number."""
    return f"domain{number:07d}.example"


def asked_domains(domains: int) -> Iterator[str]:
    """Yield domains without an end, the same in each run."""
    chance = random.Random(1)  # noqa: S311 -- no secret
    while True:
        yield domain(chance.randrange(domains))


def sightings(domains: int, seed: int = 0) -> Iterator[Sighting]:
    """Yield events without an end, of the same domains for a seed, each time with new ids."""
    chance, run = random.Random(seed), secrets.token_hex(4)  # noqa: S311 -- no secret
    for number in count():
        yield Sighting.model_construct(
            id=f"{run}-{number}",
            domain=domain(chance.randrange(domains)),
            kind=Kind.BOUNCED if chance.random() < _BOUNCED_SHARE else Kind.DELIVERED,
            at=_START + timedelta(milliseconds=number),
            recipient=None,
            email_id=None,
        )


def report_of(some: Sequence[Sighting]) -> FeedbackReported:
    """Return one message with all of the events."""
    return FeedbackReported.model_construct(
        id=f"r-{some[0].id}", at=some[0].at, client="bench", sightings=tuple(some)
    )


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure each size of messages into each database; yield the tables and their verdicts."""
    for name in plan.databases:
        for size, wanted in SIZES:
            yield f"\n{size:,} a message through RabbitMQ into {name}; {load_average()}"
            async for line in _flood_lines(bench, plan, FloodPlan(0, 0, size, name), wanted):
                yield line


async def _flood_lines(
    bench: Bench, plan: BenchPlan, flooding: FloodPlan, wanted: float
) -> AsyncIterator[str]:
    found = []
    for domains in plan.domains:
        events = plan.events * (1 if flooding.size == 1 else TOGETHER_FACTOR)
        each = replace(flooding, count=events, domains=domains)
        floods = [await flooded(bench, each) for _ in range(plan.repetitions)]
        name = f"{each.size:,} a message, {domains:,} domains"
        latencies = [one for flood in floods for one in flood.latencies]
        found.append(Series(name, [flood.rate for flood in floods], latencies))
        yield (
            f"  {domains:,} domains: {max(one.memory for one in floods) / 1e6:.0f} MB at most,"
            f" {min(one.processor for one in floods) * 1e6:.1f} µs of processor time an event,"
            f" sums in {median(one for some in floods for one in some.sums) * 1e3:.1f} ms"
        )
    yield report.table("events/s", found)
    yield report.at_least(found[0], wanted)
    yield report.no_slower(found[-1], found[0], MAX_SLOWER_SHARE)
    yield report.soon(found[-1], WANTED_P99_SECONDS)
