"""How fast events are counted into a database: in batches, and the plain way, each in its turn."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import events, plain
from benchmarks.report import Series
from services.classifier.config import ClassifierSettings
from services.classifier.evidence import Observation
from services.classifier.rule import Mode
from services.classifier.service import CACHE_KIBIBYTES, MIGRATIONS
from services.classifier.statements import Statements
from services.classifier.store import EvidenceStore
from shared.storage.database import Database
from shared.storage.dialect import MAX_ROWS, Row

GROUP = 1000  # events a commit of the plain way, where it groups them

Count = Callable[[Sequence[Observation]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many domains are known, how long a way is measured, in batches of which sizes."""

    domains: int
    seconds: float
    batches: Sequence[int]
    repetitions: int
    mode: Mode = Mode.COUNTS


async def measure(url: str | None, plan: Plan) -> Sequence[Series]:
    """Give the events a second of each way; those of the plain way are the last.

    `url` is of an empty database, None for SQLite's file.
    """
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(_ours(url, plan))
        theirs = await stack.enter_async_context(_plain(url, plan.domains))
        ways: list[tuple[str, Count, int]] = [
            *((f"batches of {size:,}", partial(_tallied, ours), size) for size in plan.batches),
            (f"an upsert an event, {GROUP:,} a commit", theirs.count, GROUP),
            ("an upsert an event, one a commit", theirs.count, 1),
        ]
        rates: dict[str, list[float]] = {name: [] for name, _, _ in ways}
        for turn in range(plan.repetitions):
            for name, count, size in ways:
                rates[name].append(await _rate(count, size, plan, turn))
    return [Series(name, found) for name, found in rates.items()]


async def _tallied(ours: EvidenceStore, observations: Sequence[Observation]) -> None:
    await ours.count(observations)


async def _rate(count: Count, size: int, plan: Plan, turn: int) -> float:
    """Count for the time of the plan; the making of the events is not measured."""
    made, done, spent = events.sightings(plan.domains, turn, plan.mode), 0, 0.0
    while spent < plan.seconds:
        batch = events.observations(list(islice(made, size)))
        begun = time.perf_counter()
        await count(batch)
        spent += time.perf_counter() - begun
        done += size
    return done / spent


@asynccontextmanager
async def _ours(url: str | None, plan: Plan) -> AsyncIterator[EvidenceStore]:
    settings = ClassifierSettings(amqp_url="amqp://nobody", classifier_mode=plan.mode)
    with TemporaryDirectory() as folder:
        async with Database.open(
            "classifier", url, Path(folder), MIGRATIONS, cache=CACHE_KIBIBYTES
        ) as database:
            await fill(database, plan.domains)
            yield EvidenceStore(database, settings.rule)


@asynccontextmanager
async def _plain(url: str | None, domains: int) -> AsyncIterator[plain.Plain]:
    with TemporaryDirectory() as folder:
        async with plain.opened(url, Path(folder)) as opened:
            await opened.fill(list(map(events.domain, range(domains))))
            yield opened


async def fill(database: Database, domains: int) -> None:
    """Make domains known, each by one delivery, whose id is forgotten."""
    for start in range(0, domains, MAX_ROWS):
        names = map(events.domain, range(start, min(start + MAX_ROWS, domains)))
        await _add(database, [(name, 0, 0, 1, 0, 0, 0, 0) for name in names])
    sums = (domains, 0, 0, domains, 0)  # unknown and delivered
    await database.write(
        lambda connection: Statements(connection.dialect.name).sum(connection, sums)
    )


async def _add(database: Database, rows: Sequence[Row]) -> None:
    await database.write(
        lambda connection: Statements(connection.dialect.name).add(connection, rows, 1)
    )
