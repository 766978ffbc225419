"""Two senders on one queue beside one: part of the drain, with the processor time of all.

On a machine with few cores the broker and the SMTP server need their share: the time tells what
is left for another sender. The SMTP server is held until all senders are connected, so that they
begin at once, and their start is not counted. There must be more mails than one sender prefetches.
"""

import asyncio
import os
import time
import uuid
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import psutil
from yarl import URL

from benchmarks import drain, report, sink
from benchmarks.bench import START_SECONDS, Bench, BenchError, BenchPlan, in_turns
from benchmarks.report import Series
from benchmarks.services import MEASURED, MeasuredService, Vhost, database
from benchmarks.sink import Sink
from shared.topology import Owner

NUMBERS: Mapping[int, str] = {2: "two senders", 1: "one sender"}
SENDERS, BROKER, DATABASE, SINK = "senders", "RabbitMQ", "database", "sink"
OTHERS, IDLE = "others", "idle"
PARTS = (SENDERS, BROKER, DATABASE, SINK, OTHERS, IDLE)
_POLL_SECONDS = 0.02
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Shared:
    """Mails a second by all senders, and the seconds of processor time a mail by who took them."""

    rate: float
    spent: Mapping[str, float]
    senders: int

    @property
    def most(self) -> float:
        """The mails a second that this time would allow if nothing else ran on the machine.

        Each sender has one core, and all that a mail needs has all cores.
        """
        ours = sum(each for name, each in self.spent.items() if name not in {OTHERS, IDLE})
        return min(self.senders / self.spent[SENDERS], _cores() / ours)


def listener(port: int) -> Sequence[psutil.Process]:
    """Return the process that listens on a port of 127.0.0.1, and its children; none if unseen."""
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
            process = psutil.Process(each.pid)
            return [process, *process.children(recursive=True)]
    return []


def processor(processes: Sequence[psutil.Process]) -> float:
    """Return the seconds of processor time that some processes have taken."""
    times = [each.cpu_times() for each in processes if each.is_running()]
    return sum(each.user + each.system for each in times)


def clocks(watched: Mapping[str, Sequence[psutil.Process]]) -> Mapping[str, float]:
    """Return the seconds that each has taken so far, and the idle ones of all cores."""
    whole = psutil.cpu_times()
    idle = whole.idle + getattr(whole, "iowait", 0.0)
    return {name: processor(each) for name, each in watched.items()} | {IDLE: idle}


def spent(
    before: Mapping[str, float], after: Mapping[str, float], seconds: float
) -> dict[str, float]:
    """Return the seconds of each between two looks; what is left of all cores others took."""
    found = {name: after[name] - before[name] for name in after}
    others = seconds * _cores() - sum(found.values())
    return found | {OTHERS: max(0.0, others)}


async def drained(
    bench: Bench, served: Sink, plan: BenchPlan, database_name: str, number: int
) -> Shared:
    """Measure so many senders that empty one queue, with their claims in one database.

    Raises BenchError, also when a mail was lost or doubled or is in the dead letters.
    """
    owners = [each for each in MEASURED if each is not Owner.LEDGER]
    async with Vhost.opened(bench, owners) as vhost, database(bench, database_name) as settings:
        ids = {str(uuid.uuid4()) for _ in range(plan.count)}
        await vhost.fill(sorted(ids), length=plan.length)
        expected = served.count() + plan.count
        with ExitStack() as held:
            held.enter_context(holding(served))
            async with _running(vhost, served, plan, settings, number) as senders:
                await _connected(senders, served)
                watched = _watched(bench, served, senders, settings)
                begun, before = time.perf_counter(), clocks(watched)
                held.close()
                await served.reach(expected, senders[0].process)
                seconds, after = time.perf_counter() - begun, clocks(watched)
        outcomes = await drain.read_outcomes(vhost, plan.count)
        await drain.check(vhost, served, expected)
    if {each.email_id for each in outcomes} != ids:
        raise BenchError("the outcomes are not those of the mails")
    took = spent(before, after, seconds)
    return Shared(
        plan.count / seconds, {name: each / plan.count for name, each in took.items()}, number
    )


@contextmanager
def holding(served: Sink) -> Iterator[None]:
    """Stop a sink until the block is left: clients connect to it and hear nothing."""
    processes = listener(served.port)
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in processes:
            each.resume()


@asynccontextmanager
async def _running(
    vhost: Vhost, served: Sink, plan: BenchPlan, settings: Mapping[str, str], number: int
) -> AsyncIterator[Sequence[MeasuredService]]:
    """Run so many senders, which start at the same time."""
    data = vhost.bench.directory / f"data-{uuid.uuid4()}"
    async with AsyncExitStack() as stack:
        async with TaskGroup() as group:
            starting = [
                group.create_task(
                    stack.enter_async_context(
                        vhost.sender(served.port, plan.connections, data, **settings)
                    )
                )
                for _ in range(number)
            ]
        yield [each.result() for each in starting]


async def _connected(senders: Sequence[MeasuredService], served: Sink) -> None:
    """Wait until each sender has a connection to the sink. Raises BenchError."""
    processes = [psutil.Process(each.process.pid) for each in senders]
    deadline = time.monotonic() + START_SECONDS
    while not all(_is_connected(each, served.port) for each in processes):
        if time.monotonic() > deadline:
            raise BenchError("a sender did not connect to the SMTP server")
        await asyncio.sleep(_POLL_SECONDS)


def _is_connected(process: psutil.Process, port: int) -> bool:
    return any(each.raddr[1:] == (port,) for each in process.net_connections("tcp"))


def _watched(
    bench: Bench, served: Sink, senders: Sequence[MeasuredService], settings: Mapping[str, str]
) -> Mapping[str, Sequence[psutil.Process]]:
    url = settings.get("DATABASE_URL")
    return {
        SENDERS: [psutil.Process(each.process.pid) for each in senders],
        BROKER: listener(bench.address.ports.amqp),
        DATABASE: listener(URL(url).port or 0) if url else [],
        SINK: listener(served.port),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def where(found: Mapping[str, Sequence[Shared]]) -> str:
    """Describe the processor time of a mail by who took it, and what it allows: medians."""
    rows = [["µs a mail", *PARTS, "allows mails/s"]]
    for name, drains in found.items():
        times = (median(each.spent[part] for each in drains) for part in PARTS)
        most = median(each.most for each in drains)
        rows.append([name, *(f"{each * _MICROSECONDS:,.0f}" for each in times), f"{most:,.0f}"])
    return report.aligned(rows)


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure one sender and two in turns, for each database; yield rates and processor times."""
    async with sink.serving(bench, sink.best()) as served:
        for name in plan.databases:
            yield drain.title(f"{served.name} on {_cores()} cores, claims in {name}", plan)
            found = await of_numbers(bench, served, plan, name)
            series = [Series(text, [each.rate for each in all_]) for text, all_ in found.items()]
            yield report.table("mails/s", series)
            yield where(found)


async def of_numbers(
    bench: Bench, served: Sink, plan: BenchPlan, database_name: str
) -> Mapping[str, Sequence[Shared]]:
    """Measure two senders and one in turns."""
    kinds = {
        text: partial(drained, bench, served, plan, database_name, number)
        for number, text in NUMBERS.items()
    }
    return await in_turns(kinds, plan.repetitions)
