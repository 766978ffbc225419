"""The classifier: events into databases beside the plain way, and through RabbitMQ while asked."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median

import asyncpg

from benchmarks import count, flood, machine, report, stream
from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.postgres import PostgresAccount, PostgresError, PostgresPrograms, PostgresServer
from ops import ports
from services.classifier.rule import Mode

BATCHES = (1, 1000, 20_000)
SINGLY, IN_BATCHES = 6000, 50_000  # events a second through RabbitMQ that are wanted
SLOWER = 0.15  # at most, at many domains
ANSWER = 0.005  # seconds, of 99 in 100 answers
POSTGRESQL = "PostgreSQL"
DATABASES = ("SQLite", POSTGRESQL)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many domains at the least and at the most; how long, how many and how often."""

    domains: Sequence[int]
    seconds: float
    events: int
    repetitions: int
    mode: Mode = Mode.COUNTS
    databases: Sequence[str] = DATABASES


async def measure(place: Bench, plan: Plan) -> AsyncIterator[str]:
    """Measure, and give each table as soon as there is one. Raises BenchError."""
    with _server(place) as server:
        for name in plan.databases:
            base = server.account.url() if name == POSTGRESQL else None
            for domains in plan.domains:
                async with _database(base) as url:
                    counting = count.Plan(
                        domains, plan.seconds, BATCHES, plan.repetitions, plan.mode
                    )
                    found = await count.measure(url, counting)
                yield f"\nevents of {domains:,} domains into {name}; {machine.load()}"
                yield report.table("events/s", found)
            for size, wanted in ((1, SINGLY), (1000, IN_BATCHES)):
                yield f"\n{size:,} a message through RabbitMQ into {name}; {machine.load()}"
                async for line in _flooded(place, base, plan, size, wanted):
                    yield line
                yield f"\n{size:,} a message as a stream into {name}; {machine.load()}"
                async for line in _streamed(place, base, plan, size, wanted):
                    yield line


async def _flooded(
    place: Bench, base: str | None, plan: Plan, size: int, wanted: float
) -> AsyncIterator[str]:
    found = []
    for domains in plan.domains:
        flooding = flood.Plan(plan.events * (1 if size == 1 else 10), domains, size, plan.mode)
        floods = []
        for _ in range(plan.repetitions):
            async with _database(base) as url:
                floods.append(await flood.flooded(place, url, flooding))
        found.append(flood.series(flooding, floods))
        yield (
            f"  {domains:,} domains: {max(each.memory for each in floods) / 1e6:.0f} MB at most,"
            f" {min(each.processor for each in floods) * 1e6:.1f} µs of processor time an event,"
            f" sums in {median(each for some in floods for each in some.sums) * 1e3:.1f} ms"
        )
    yield report.table("events/s", found)
    yield report.at_least(found[0], wanted)
    yield report.no_slower(found[-1], found[0], SLOWER)
    yield report.soon(found[-1], ANSWER)


async def _streamed(
    place: Bench, base: str | None, plan: Plan, size: int, wanted: float
) -> AsyncIterator[str]:
    found = []
    for rate in (wanted / 2, wanted):
        events = round(rate * plan.seconds / size) * size
        async with _database(base) as url:
            streaming = flood.Plan(events, plan.domains[0], size, plan.mode)
            found.append(await stream.streamed(place, url, streaming, rate))
    yield report.table("events/s", found)
    for each in found:
        yield report.soon(each, ANSWER)


@contextmanager
def _server(place: Bench) -> Iterator[PostgresServer]:
    programs = PostgresPrograms.find()
    if programs is None:
        raise BenchError("no PostgreSQL: install postgresql (Debian, Ubuntu: apt-get install)")
    account = PostgresAccount(ports.unused(1)[0])
    server = PostgresServer(place.directory / "postgres", account, programs)
    try:
        server.start()
        yield server
    except PostgresError as error:
        raise BenchError(str(error)) from error
    finally:
        server.discard()


@asynccontextmanager
async def _database(base: str | None) -> AsyncIterator[str | None]:
    """Make an empty database on a server; None is SQLite, which needs none."""
    if base is None:
        yield None
        return
    administrator = await asyncpg.connect(base.replace("+asyncpg", ""))
    try:
        await administrator.execute("CREATE DATABASE measured")
        yield f"{base.rpartition('/')[0]}/measured"
        await administrator.execute("DROP DATABASE measured WITH (FORCE)")
    finally:
        await administrator.close()
