"""How much memory the sender has while many mails wait: it must not depend on how many."""

import asyncio
import uuid
from asyncio.subprocess import Process
from collections.abc import Sequence

from benchmarks import drain, memory
from benchmarks.bench import Bench
from benchmarks.sink import Sink
from ops import ports
from shared.broker import Broker

SAMPLE_SECONDS = 0.1


async def sampled(
    bench: Bench, served: Sink, waiting: int, plan: drain.Plan
) -> tuple[Sequence[int], int]:
    """Let `waiting` mails wait, and tell the sender's memory while it sends those of the plan.

    In octets: every tenth of a second, and the most there ever was. Raises BenchError.
    """
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, drain.NAME) as broker:
        await drain.fill(broker, [str(uuid.uuid4()) for _ in range(waiting)])
        [health_port] = ports.unused(1)
        environment = drain.settings(bench, amqp_url, served.port, plan.connections, health_port)
        expected = served.count() + plan.count
        async with bench.running("sender", drain.SENDER, environment) as process:
            return await _samples(served, expected, process), memory.peak(process.pid)


async def _samples(served: Sink, expected: int, process: Process) -> Sequence[int]:
    samples: list[int] = []
    reaching = asyncio.create_task(served.reach(expected, process))
    try:
        while not reaching.done():
            samples.append(memory.resident(process.pid))
            await asyncio.wait({reaching}, timeout=SAMPLE_SECONDS)
    finally:
        reaching.cancel()
    reaching.result()
    return samples
