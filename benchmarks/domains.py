"""The classifier: events through RabbitMQ into each database, while domains are asked for."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median

import asyncpg

from benchmarks import bench, flood, report
from benchmarks.bench import Bench, BenchError
from benchmarks.postgres import PostgresAccount, PostgresError, PostgresPrograms, PostgresServer
from ops import ports
from services.classifier.rule import Mode

WANTED_SINGLY, WANTED_TOGETHER = 8000, 80_000  # events a second through RabbitMQ
WANTED_P99_SECONDS = 0.005  # of an answer
MAX_SLOWER_SHARE = 0.15  # with the most domains, beside the fewest
SIZES = ((1, WANTED_SINGLY), (1000, WANTED_TOGETHER))  # events a message
POSTGRESQL = "PostgreSQL"
DATABASES = ("SQLite", POSTGRESQL)


@dataclass(frozen=True, slots=True)
class DomainsPlan:
    """How many domains, each in turn; how long a stream, how many events, how often."""

    domains: Sequence[int]
    seconds: float
    events: int
    repetitions: int
    mode: Mode = Mode.COUNTS
    databases: Sequence[str] = DATABASES


async def measure(place: Bench, plan: DomainsPlan) -> AsyncIterator[str]:
    """Measure, and yield each table as soon as there is one. Raises BenchError."""
    with server(place) as started:
        for name in plan.databases:
            base = started.account.url() if name == POSTGRESQL else None
            for size, wanted in SIZES:
                load = bench.load_average()
                yield f"\n{size:,} a message through RabbitMQ into {name}; {load}"
                async for line in _flooded(place, base, plan, size, wanted):
                    yield line
                yield f"\n{size:,} a message as a stream into {name}; {bench.load_average()}"
                async for line in _streamed(place, base, plan, size, wanted):
                    yield line


async def _flooded(
    place: Bench, base: str | None, plan: DomainsPlan, size: int, wanted: float
) -> AsyncIterator[str]:
    found = []
    for domains in plan.domains:
        count = plan.events * (1 if size == 1 else 10)
        flooding = flood.FloodPlan(count, domains, size, plan.mode)
        floods = []
        for _ in range(plan.repetitions):
            async with database(base) as url:
                floods.append(await flood.flooded(place, url, flooding))
        found.append(flood.series(flooding, floods))
        yield (
            f"  {domains:,} domains: {max(each.memory for each in floods) / 1e6:.0f} MB at most,"
            f" {min(each.processor for each in floods) * 1e6:.1f} µs of processor time an event,"
            f" sums in {median(each for some in floods for each in some.sums) * 1e3:.1f} ms"
        )
    yield report.table("events/s", found)
    yield report.at_least(found[0], wanted)
    yield report.no_slower(found[-1], found[0], MAX_SLOWER_SHARE)
    yield report.soon(found[-1], WANTED_P99_SECONDS)


async def _streamed(
    place: Bench, base: str | None, plan: DomainsPlan, size: int, wanted: float
) -> AsyncIterator[str]:
    found = []
    for rate in (wanted / 2, wanted):
        events = round(rate * plan.seconds / size) * size
        async with database(base) as url:
            streaming = flood.FloodPlan(events, plan.domains[0], size, plan.mode)
            found.append(await flood.streamed(place, url, streaming, rate))
    yield report.table("events/s", found)
    for each in found:
        yield report.soon(each, WANTED_P99_SECONDS)


@contextmanager
def server(place: Bench) -> Iterator[PostgresServer]:
    """Run a PostgreSQL until the block is left. Raises BenchError."""
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
async def database(base: str | None) -> AsyncIterator[str | None]:
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
