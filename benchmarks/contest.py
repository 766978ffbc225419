"""The sender beside what a user would pick instead: the same mails, in turns, to the same sink."""

import importlib.util
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

from benchmarks import drain, postfix
from benchmarks.bench import Bench
from benchmarks.drain import Drained, DrainPlan, SendTask
from benchmarks.report import Series
from benchmarks.sink import Sink

CELERY_PROCESSES = 4
CELERY_TASKS = "benchmarks.tasks"
SENDER = "Postrider, one process"
LOOP = "bare aiosmtplib loop"
CELERY = f"Celery, {CELERY_PROCESSES} processes"
POSTFIX = "Postfix, accepting included"
# Times the rate of each.
WANTED_NEAR: Mapping[str, float] = {CELERY: 3.2, POSTFIX: 1.9}
WANTED_FAR: Mapping[str, float] = {CELERY: 7.7, POSTFIX: 1.2}
MAX_MEMORY_BYTES = 115_000_000
_FILL_SECONDS = 120.0

# Sends so many mails to a sink and returns how many a second were sent.
Rival = Callable[[Sink, int], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Rivals:
    """The rivals that run here, and a line for each other one that says why it does not."""

    there: Mapping[str, Rival] = field(default_factory=dict)
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ContestResult:
    """Rates of all, the sender's first and the bare loop's last; more of the sender."""

    series: Sequence[Series]
    drains: Sequence[Drained]


async def rivals(bench: Bench) -> Rivals:
    """Return the rivals that run on this machine."""
    celery = importlib.util.find_spec("celery") is not None
    obstacles = {
        CELERY: None if celery else "`make bench` installs it from requirements-bench.lock",
        POSTFIX: await postfix.obstacle(bench),
    }
    known: Mapping[str, Rival] = {
        CELERY: partial(drained_by_celery, bench),
        POSTFIX: partial(postfix.relayed, bench),
    }
    return Rivals(
        {name: rival for name, rival in known.items() if obstacles[name] is None},
        [f"{name} is left out: {obstacle}" for name, obstacle in obstacles.items() if obstacle],
    )


async def measure(
    bench: Bench, served: Sink, plan: DrainPlan, rivals: Mapping[str, Rival], repetitions: int
) -> ContestResult:
    """Measure all in turns, so that a disturbance of the machine meets all.

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
    return ContestResult(series, drains)


async def drained_by_celery(bench: Bench, served: Sink, count: int) -> float:
    """Measure a Celery worker that empties a queue which was filled before it starts.

    All but its processes is Celery's default: a task is acknowledged before it runs, so what a
    worker holds when it dies is lost. Return the mails a second. Raises BenchError.
    """
    async with bench.vhost() as amqp_url:
        tasks = {**asdict(SendTask(served.port, count, 1)), "amqp_url": amqp_url}
        await bench.ask(CELERY_TASKS, tasks, _FILL_SECONDS)
        command = [sys.executable, "-m", "celery", "-A", CELERY_TASKS, "-b", amqp_url, "worker"]
        options = ["--concurrency", str(CELERY_PROCESSES), "--loglevel", "WARNING"]
        expected = served.count() + count
        async with bench.running("celery", [*command, *options], {}) as process:
            rate = await served.reach(expected, process)
        served.expect(expected)
    return rate
