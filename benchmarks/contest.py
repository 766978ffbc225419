"""The sender beside what a user would pick instead: the same mails, in turns, to the same sink."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import celery, drain, postfix
from benchmarks.bench import Bench
from benchmarks.drain import Drained, Plan
from benchmarks.package import Programs
from benchmarks.report import Series
from benchmarks.sink import Sink

SENDER = "Postrider, one process"
LOOP = "bare aiosmtplib loop"
CELERY = f"Celery, {celery.PROCESSES} processes"
POSTFIX = "Postfix, accepting included"
WANTED: Mapping[str, float] = {CELERY: 3.0, POSTFIX: 4.0}  # times their rate
MEMORY = 120_000_000  # octets, to be less than

# Has so many mails sent to a sink and gives how many a second were.
Rival = Callable[[Sink, int], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Rivals:
    """Those that can be had here; why not the others, in a line each."""

    there: Mapping[str, Rival] = field(default_factory=dict)
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """Rates of all, the sender's first and the bare loop's last; what else the sender told."""

    series: Sequence[Series]
    drains: Sequence[Drained]


async def rivals(bench: Bench, programs: Programs | None) -> Rivals:
    """Find out who can take part."""
    obstacles = {
        CELERY: celery.obstacle(),
        POSTFIX: await postfix.obstacle(bench, programs),
    }
    there = {CELERY: partial(celery.drained, bench)}
    if programs:
        there[POSTFIX] = partial(postfix.relayed, bench, programs)
    return Rivals(
        {name: rival for name, rival in there.items() if obstacles[name] is None},
        [f"{name} is left out: {obstacle}" for name, obstacle in obstacles.items() if obstacle],
    )


async def measure(
    bench: Bench, served: Sink, plan: Plan, rivals: Mapping[str, Rival], repetitions: int
) -> Result:
    """Measure all in turns, so that what disturbs the machine meets all.

    Raises BenchError, also when a mail was lost or doubled or is in the dead letters.
    """
    drains: list[Drained] = []
    loops: list[float] = []
    rates: Mapping[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repetitions):
        drains.append(await drain.drained(bench, served, plan))
        for name, rival in rivals.items():
            rates[name].append(await rival(served, plan.count))
        loops.append(await drain.looped(bench, served, plan))
    series = [
        Series(SENDER, [each.rate for each in drains]),
        *(Series(name, each) for name, each in rates.items()),
        Series(LOOP, loops),
    ]
    return Result(series, drains)
