"""How fast the sender empties its queue, beside what a user would pick instead.

Each mail takes the whole path: out of RabbitMQ, composed, sent, its outcome published and
confirmed, the command acknowledged. The rate is taken from the times of the outcomes, from the
first to the last. The others are Celery, Postfix, and a bare loop around aiosmtplib with
ready-made octets: no queue, no outcome, no composing.
"""

import asyncio
import importlib
import importlib.util
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import psutil
from aiosmtplib import SMTP

from benchmarks import arrive, mail, postfix, report, sink
from benchmarks.bench import Bench, BenchError, BenchPlan, in_turns, load_average
from benchmarks.report import Series
from benchmarks.services import MEASURED, NO_CLIENT, Vhost, mean
from benchmarks.sink import Sink
from shared.consumer import Subscription
from shared.contracts import Category, EmailDelivered
from shared.topology import EVIDENCE, SHARDS, Owner, dead_queue, sending_queue

CELERY_PROCESSES = 4
CELERY_TASKS = "benchmarks.tasks"
SENDER = "Postrider, one process"
LOOP = "bare aiosmtplib loop"
CELERY = f"Celery, {CELERY_PROCESSES} processes"
POSTFIX = "Postfix, accepting included"
ROUND_TRIP_SECONDS = 0.020  # to the far relay and back
FAR_SHARE = 5  # as many mails to the near relay
LARGE_SHARE = 5  # as many mails of the usual length
LARGE_LENGTH = 38  # 100 KB
BDAT, DATA = "Postrider by BDAT", "Postrider by DATA"
WANTED_BDAT = 1.7  # times the rate by DATA: one round trip in place of two, and the rest
# Times the rate of each.
WANTED_NEAR: Mapping[str, float] = {CELERY: 3.2, POSTFIX: 1.9}
WANTED_LARGE: Mapping[str, float] = {CELERY: 3.2, POSTFIX: 1.2}
WANTED_FAR: Mapping[str, float] = {CELERY: 7.7, POSTFIX: 1.2}
MAX_MEMORY_BYTES = 115_000_000
MAX_LARGE_MEMORY_BYTES = 150_000_000
MAX_SHARDS_SHARE = 0.25  # that drains may be slower with shards: WANTED_NEAR bears 0.3
_SAMPLE_SECONDS = 0.1
_READ_SECONDS = 60.0
_PREFETCH = 200

# Sends the mails of a plan to a sink and returns how many a second were sent.
Rival = Callable[[Sink, BenchPlan], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Drained:
    """One emptied queue: mails a second, and the most memory in octets.

    `handling` is the mean from delivery to acknowledgement, in seconds; `smtp` is its part that is
    the SMTP transaction.
    """

    rate: float
    handling: float
    smtp: float
    memory: int


async def drained(
    bench: Bench,
    served: Sink,
    plan: BenchPlan,
    clients: Sequence[str | None] = NO_CLIENT,
    *,
    recorded: bool = False,
) -> Drained:
    """Measure a sender that empties a queue which was filled before it starts.

    A `recorded` one has a ledger beside it, which records commands and outcomes meanwhile.
    """
    owners = [each for each in MEASURED if recorded or each is not Owner.LEDGER]
    async with Vhost.opened(bench, owners) as vhost:
        ids = {str(uuid.uuid4()) for _ in range(plan.count)}
        await vhost.fill(sorted(ids), clients=clients, length=plan.length)
        expected = served.count() + plan.count
        async with (
            vhost.running("ledger") if recorded else nullcontext(),
            vhost.sender(
                served.port, plan.connections, SENDER_SMTP_CHUNKING=str(plan.chunking).lower()
            ) as sender,
        ):
            await served.reach(expected, sender.process)
            metrics, memory = await sender.metrics(), sender.memory
        outcomes = await read_outcomes(vhost, plan.count)
        await check(vhost, served, expected)
    if {each.email_id for each in outcomes} != ids:
        raise BenchError("the outcomes are not those of the mails")
    return Drained(
        _rate(outcomes),
        mean(metrics, "postrider_handling_seconds"),
        mean(metrics, "postrider_smtp_transaction_seconds"),
        memory,
    )


async def check(vhost: Vhost, served: Sink, expected: int) -> None:
    """Check that every mail was sent once and nothing is left."""
    served.expect(expected)
    if left := await vhost.waiting_mails(Category.TRANSACTIONAL):
        raise BenchError(f"{left} messages are left")
    dead = dead_queue(sending_queue(Category.TRANSACTIONAL))
    if left := await vhost.waiting(dead):
        raise BenchError(f"{left} messages are in {dead}")


def _rate(outcomes: Sequence[EmailDelivered]) -> float:
    times = [each.at for each in outcomes]
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


async def read_outcomes(vhost: Vhost, count: int) -> Sequence[EmailDelivered]:
    """Read the outcomes of `count` mails where they wait for the classifier.

    A queue of our own would cost the broker another copy of each, and a consumer during the
    measurement the time of a core. Raises BenchError when there are more or fewer.
    """
    found: list[EmailDelivered] = []
    complete = asyncio.Event()

    async def on_delivered(event: EmailDelivered) -> Sequence[EmailDelivered]:
        found.append(event)
        if len(found) == count:
            complete.set()
        return ()

    there = await vhost.waiting(EVIDENCE)
    if there != count:
        raise BenchError(f"{there} outcomes of {count} mails")
    subscription = Subscription(EVIDENCE, {EmailDelivered: on_delivered}, prefetch=_PREFETCH)
    try:
        async with asyncio.timeout(_READ_SECONDS), vhost.broker.consuming(subscription):
            await complete.wait()
    except TimeoutError:
        raise BenchError(f"only {len(found)} of {count} mails were delivered") from None
    return found


async def looped(bench: Bench, served: Sink, plan: BenchPlan) -> float:
    """Send as many mails by the bare loop; return the mails a second."""
    expected = served.count() + plan.count
    arguments = served.port, plan.count, plan.connections, plan.length
    seconds = await bench.call(send_all, *arguments)
    served.expect(expected)
    return plan.count / seconds


async def send_all(port: int, count: int, connections: int, length: int = 1) -> float:
    """Send mails to a port of 127.0.0.1; return the seconds, opening connections not included."""
    content, numbers = mail.ready_made(length), iter(range(count))
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(
                SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="[127.0.0.1]")
            )
            for _ in range(connections)
        ]
        begun = time.perf_counter()
        await asyncio.gather(*(_send(client, numbers, content) for client in clients))
        return time.perf_counter() - begun


async def _send(client: SMTP, numbers: Iterator[int], content: bytes) -> None:
    """Send until `numbers`, which all connections share, are used up."""
    for number in numbers:
        await client.sendmail("postrider@bench.example", [mail.recipient(number)], content)


async def drained_by_celery(bench: Bench, served: Sink, plan: BenchPlan) -> float:
    """Measure a Celery worker that empties a queue which was filled before it starts.

    All but its processes is Celery's default: a task is acknowledged before it runs, so what a
    worker holds when it dies is lost. Return the mails a second. Raises BenchError.
    """
    tasks = importlib.import_module(CELERY_TASKS)
    async with Vhost.opened(bench) as vhost:
        await bench.call(tasks.fill, vhost.url, served.port, plan.count, plan.length)
        command = [sys.executable, "-m", "celery", "-A", CELERY_TASKS, "-b", vhost.url, "worker"]
        options = ["--concurrency", str(CELERY_PROCESSES), "--loglevel", "WARNING"]
        expected = served.count() + plan.count
        async with bench.running("celery", [*command, *options], {}) as process:
            rate = await served.reach(expected, process)
        served.expect(expected)
    return rate


async def rivals(bench: Bench) -> tuple[Mapping[str, Rival], Sequence[str]]:
    """Return the rivals that run on this machine, and why each other one does not."""
    celery = importlib.util.find_spec("celery") is not None
    obstacles = {
        CELERY: None if celery else "`make bench` installs it from requirements-bench.lock",
        POSTFIX: await postfix.obstacle(bench),
    }
    known: Mapping[str, Rival] = {
        CELERY: partial(drained_by_celery, bench),
        POSTFIX: partial(postfix.relayed, bench),
    }
    return (
        {name: rival for name, rival in known.items() if obstacles[name] is None},
        [f"{name} is left out: {obstacle}" for name, obstacle in obstacles.items() if obstacle],
    )


async def contest(
    bench: Bench, served: Sink, plan: BenchPlan, rivals: Mapping[str, Rival]
) -> tuple[Sequence[Series], Sequence[Drained]]:
    """Measure the sender, its rivals and the bare loop in turns, and return more of the sender.

    Raises BenchError, also when a mail was lost or doubled or is in the dead letters.
    """
    drains: list[Drained] = []

    async def ours() -> float:
        drains.append(await drained(bench, served, plan))
        return drains[-1].rate

    kinds: Mapping[str, Callable[[], Awaitable[float]]] = {
        SENDER: ours,
        **{name: partial(rival, served, plan) for name, rival in rivals.items()},
        LOOP: partial(looped, bench, served, plan),
    }
    rates = await in_turns(kinds, plan.repetitions)
    return [Series(name, each) for name, each in rates.items()], drains


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure all next to the relay and away from it; yield the tables and their verdicts."""
    there, missing = await rivals(bench)
    for line in missing:
        yield line
    far_plan = replace(plan, count=max(2, plan.count // FAR_SHARE))
    large_plan = replace(plan, count=max(2, plan.count // LARGE_SHARE), length=LARGE_LENGTH)
    async with (
        sink.serving(bench, sink.best()) as near,
        sink.moved(bench, near, ROUND_TRIP_SECONDS / 2) as far,
    ):
        for where, served, each, wanted in (
            ("at no distance", near, plan, WANTED_NEAR),
            ("at no distance", near, large_plan, WANTED_LARGE),
            (f"{ROUND_TRIP_SECONDS * 1000:.0f} ms away", far, far_plan, WANTED_FAR),
        ):
            yield title(f"{near.name} {where}", each)
            series, drains = await contest(bench, served, each, there)
            yield report.table("mails/s", series, len(mail.ready_made(each.length)))
            yield report.split([one.handling for one in drains], [one.smtp for one in drains])
            for rival in series:
                if rival.name in wanted:
                    yield report.times(series[0], rival, wanted[rival.name])
            limit = MAX_LARGE_MEMORY_BYTES if each is large_plan else MAX_MEMORY_BYTES
            yield report.most_memory([one.memory for one in drains], limit)


async def chunking_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure mails to a Postfix away from it, by BDAT and by DATA; yield the table and verdict."""
    if obstacle := await postfix.obstacle(bench):
        yield f"{BDAT} is left out: {obstacle}"
        return
    async with (
        postfix.discarding(bench) as near,
        sink.moved(bench, near, ROUND_TRIP_SECONDS / 2) as far,
    ):
        yield title(f"{near.name} {ROUND_TRIP_SECONDS * 1000:.0f} ms away", plan)
        kinds = {
            BDAT: partial(drained, bench, far, plan),
            DATA: partial(drained, bench, far, replace(plan, chunking=False)),
        }
        drains = await in_turns(kinds, plan.repetitions)
        series = [Series(name, [one.rate for one in each]) for name, each in drains.items()]
        yield report.table("mails/s", series)
        yield report.times(series[0], series[1], WANTED_BDAT)


def title(where: str, plan: BenchPlan) -> str:
    """Describe a drain to a relay."""
    octets = len(mail.ready_made(plan.length))
    return (
        f"\n{plan.count:,} mails of {octets:,} bytes waiting, to {where},"
        f" {plan.connections} SMTP connections, {plan.repetitions} times in turns;"
        f" {load_average()}"
    )


async def memory_samples(bench: Bench, served: Sink, plan: BenchPlan) -> tuple[Sequence[int], int]:
    """Sample the sender's memory while it sends the first `plan.count` mails of those that wait.

    In octets: every tenth of a second, and the most there ever was. Raises BenchError.
    """
    samples: list[int] = []

    async def sample(process: psutil.Process) -> None:
        while True:
            samples.append(process.memory_info().rss)
            await asyncio.sleep(_SAMPLE_SECONDS)

    async with Vhost.opened(bench) as vhost:
        await vhost.fill([str(uuid.uuid4()) for _ in range(plan.waiting)])
        expected = served.count() + plan.count
        async with vhost.sender(served.port, plan.connections) as sender:
            sampling = asyncio.create_task(sample(psutil.Process(sender.process.pid)))
            try:
                await served.reach(expected, sender.process)
            finally:
                sampling.cancel()
            return samples, sender.memory


async def memory_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure the memory of a sender, and yield its course and the verdict."""
    async with sink.serving(bench, sink.best()) as served:
        yield f"\nthe sender's memory while it sends the first {plan.count:,} of {plan.waiting:,}:"
        samples, peak = await memory_samples(bench, served, plan)
        yield report.course(samples)
        yield report.most_memory([peak], MAX_MEMORY_BYTES)


async def of_clients(bench: Bench, served: Sink, plan: BenchPlan) -> Sequence[Series]:
    """Drain mails of one client, of many and of none, in turns: in shards, and in one queue."""
    every = arrive.clients()
    kinds: Mapping[str, Sequence[str | None]] = {
        "one client in a shard": every[:1],
        f"{SHARDS} clients in {SHARDS} shards": every,
        "no client, in one queue": NO_CLIENT,
    }
    found = await in_turns(
        {name: partial(drained, bench, served, plan, each) for name, each in kinds.items()},
        plan.repetitions,
    )
    return [Series(name, [each.rate for each in drains]) for name, drains in found.items()]


async def share_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure the cost of shards and a client behind another's backlog; yield both."""
    async with sink.serving(bench, sink.best()) as served:
        yield title(served.name, plan)
        series = await of_clients(bench, served, plan)
        yield report.table("mails/s", series)
        for each in series[:-1]:
            yield report.no_slower(each, series[-1], MAX_SHARDS_SHARE)
    async for line in arrive.backlog_lines(bench, plan):
        yield line
