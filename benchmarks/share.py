"""Measure the cost of the shards of a class, and the wait of a client behind a backlog.

The same mails are drained as those of no client, which wait in one queue, of one client in its
shard, and of sixteen clients in as many shards. Then the mails of one client wait, and those of
another are published one after the other.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks import arrive, drain, mail
from benchmarks.arrive import Arrivals
from benchmarks.bench import Bench, BenchError
from benchmarks.drain import NAME, DrainPlan
from benchmarks.report import Series
from benchmarks.sink import Sink
from ops import ports
from shared.broker import Broker
from shared.contracts import Category
from shared.shards import SHARDS, shard_of

# That drains may be slower with shards: the verdicts of `contest` bear 0.3.
WANTED_SHARE = 0.25
WANTED_P99_SECONDS = 1.0  # for a mail of another client behind the backlog


@dataclass(frozen=True, slots=True)
class BacklogPlan:
    """So many mails of another client, while so many of one wait."""

    count: int
    waiting: int


def clients() -> Iterator[str]:
    """Yield a client of each shard, so that no two of them share one."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SHARDS:
        name = f"client-{number}"
        if shard_of(name) not in found:
            found[shard_of(name)] = name
            yield name
        number += 1


async def drains(place: Bench, served: Sink, plan: DrainPlan, repetitions: int) -> Sequence[Series]:
    """Measure the drains in turns; the last one is that of the queue without a shard."""
    every = tuple(clients())
    kinds: Mapping[str, Sequence[str | None]] = {
        "one client in a shard": every[:1],
        f"{SHARDS} clients in {SHARDS} shards": every,
        "no client, in one queue": drain.NO_CLIENT,
    }
    rates: Mapping[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repetitions):
        for name, of_clients in kinds.items():
            drained = await drain.drained(place, served, replace(plan, clients=of_clients))
            rates[name].append(drained.rate)
    return [Series(name, each) for name, each in rates.items()]


async def behind_backlog(place: Bench, plan: BacklogPlan) -> Series:
    """Time bulk mails of a client from the publish to their arrival, one after the other.

    Raises BenchError when the backlog of the other client is gone before the last one.
    """
    big, small, *_ = clients()
    arrivals = Arrivals()
    async with (
        place.vhost() as amqp_url,
        Broker.connect(amqp_url, NAME) as broker,
        arrive.serving(arrivals) as smtp_port,
    ):
        ids = [f"bulk-{number}" for number in range(plan.waiting)]
        await drain.fill(broker, ids, Category.BULK, (big,))
        arrivals.expect(mail.recipient(0))
        [health_port] = ports.unused(1)
        environment = drain.settings(place, amqp_url, smtp_port, 1, health_port)
        async with place.running("sender", drain.SENDER, environment):
            await arrivals.wait(mail.recipient(0))
            begun = time.perf_counter()
            latencies = [
                await _latency(broker, arrivals, f"other-{number}", small)
                for number in range(plan.count)
            ]
            seconds = time.perf_counter() - begun
            if not await drain.waiting_in_class(broker, Category.BULK):
                raise BenchError("the backlog was sent before the other client's mails")
    name = f"behind {plan.waiting:,} of another client"
    return Series(name, [plan.count / seconds], latencies)


async def _latency(broker: Broker, arrivals: Arrivals, name: str, client: str) -> float:
    command = mail.command(name, f"{name}@bench.example").model_copy(
        update={"category": Category.BULK, "client": client}
    )
    arrivals.expect(f"{name}@bench.example")
    begun = time.perf_counter()
    await broker.publish(command)
    return await arrivals.wait(f"{name}@bench.example") - begun
