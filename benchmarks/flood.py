"""How fast the classifier empties its queue, and how fast it answers meanwhile.

The road of each event is the whole one: out of RabbitMQ, read, counted in a database, committed,
acknowledged. The events wait before the classifier starts; the time is from its first progress to
its last, as its own answers tell.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks import count, events, memory
from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.report import Series
from ops import ports
from services.classifier.rule import Mode
from services.classifier.service import MIGRATIONS
from shared.broker import Broker
from shared.contracts import CountDomains, DescribeDomain, DomainsCounted
from shared.errors import NoAnswer
from shared.storage.database import Database

NAME = "bench"  # by which the broker knows us
SERVICE = (sys.executable, "-m", "services.classifier")
_AT_ONCE = 200  # publishings under way
_ASK_SECONDS = 5.0
_LOOK_SECONDS = 0.02  # between two questions
_WITHIN = 300.0  # seconds for all of it


@dataclass(frozen=True, slots=True)
class Plan:
    """How many events of how many domains, so many in each message."""

    count: int
    domains: int
    size: int
    mode: Mode = Mode.COUNTS


class Flood(NamedTuple):
    """One emptied queue: events a second, seconds of each answer, the most memory in octets.

    `processor` is the seconds of processor time for each event, which a busy machine moves less.
    `sums` are the seconds of each answer that has the sums over all domains.
    """

    rate: float
    processor: float
    latencies: Sequence[float]
    sums: Sequence[float]
    memory: int


def series(plan: Plan, floods: Sequence[Flood]) -> Series:
    """Give what was measured as a line of a table."""
    latencies = [each for flood in floods for each in flood.latencies]
    name = f"{plan.size:,} a message, {plan.domains:,} domains"
    return Series(name, [each.rate for each in floods], latencies)


async def flooded(bench: Bench, url: str | None, plan: Plan) -> Flood:
    """Let the classifier count what waits, and ask it for domains meanwhile.

    `url` is of an empty database, None for SQLite's file.
    """
    [health_port] = ports.unused(1)
    data = bench.directory / f"data-{health_port}"
    async with Database.open("classifier", url, data, MIGRATIONS) as database:
        await count.fill(database, plan.domains)
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        await _publish(broker, plan)
        environment = settings(amqp_url, url, data, health_port, plan.mode)
        async with bench.running("classifier", SERVICE, environment) as process:
            await bench.listening("classifier", process, health_port)
            before = _processor(process.pid)
            async with asyncio.timeout(_WITHIN):
                rate, latencies, sums = await _watched(broker, plan)
            spent = (_processor(process.pid) - before) / plan.count
            return Flood(rate, spent, latencies, sums, memory.peak(process.pid))


async def _publish(broker: Broker, plan: Plan) -> None:
    made = events.sightings(plan.domains, mode=plan.mode)
    messages = [
        events.report(list(islice(made, min(plan.size, plan.count - start))))
        for start in range(0, plan.count, plan.size)
    ]
    for start in range(0, len(messages), _AT_ONCE):
        await asyncio.gather(*map(broker.publish, messages[start : start + _AT_ONCE]))


async def _watched(broker: Broker, plan: Plan) -> tuple[float, Sequence[float], Sequence[float]]:
    """Ask for domains and sums until all is counted; give the rate and the times of answers."""
    chance = random.Random(1)  # noqa: S311 -- no secret
    known = plan.domains  # each has one delivery already
    begun, first, latencies, sums = 0.0, 0, list[float](), list[float]()
    while True:
        asked = time.perf_counter()
        done, now = await counted(broker) - known, time.perf_counter()
        sums.append(now - asked)
        if done and not begun:
            begun, first = now, done
        if done >= plan.count:
            break
        question = DescribeDomain(
            id=f"q-{len(latencies)}", domain=events.domain(chance.randrange(plan.domains))
        )
        asked = time.perf_counter()
        await broker.ask(question, within=_ASK_SECONDS)
        latencies.append(time.perf_counter() - asked)
        await asyncio.sleep(_LOOK_SECONDS)
    if now == begun:
        raise BenchError("all was counted at one look; take more events")
    return (done - first) / (now - begun), latencies, sums


async def counted(broker: Broker) -> int:
    """Ask the classifier how many events it has counted; 0 while it does not answer."""
    try:
        sums = await broker.ask(CountDomains(id="q"), within=_ASK_SECONDS)
    except NoAnswer:
        return 0
    if not isinstance(sums, DomainsCounted):
        raise BenchError(f"an answer that is none: {sums.routing_key}")
    return sums.delivered + sums.bounced


def settings(
    amqp_url: str, url: str | None, data: Path, health_port: int, mode: Mode = Mode.COUNTS
) -> Mapping[str, str]:
    """Give the environment of a classifier."""
    return {
        "AMQP_URL": amqp_url,
        "DATA_DIR": str(data),
        "HEALTH_PORT": str(health_port),
        "CLASSIFIER_MODE": mode,
        **({"DATABASE_URL": url} if url else {}),
    }


def _processor(pid: int) -> float:
    """Give the seconds of processor time of a process (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
