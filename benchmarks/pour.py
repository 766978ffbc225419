"""Run as a process: pour events into RabbitMQ at a set rate, whatever becomes of them.

A task comes in as JSON, the seconds that it took go out as JSON. What is said is made before.
"""

import asyncio
import sys
import time
from itertools import islice
from typing import Any

import orjson

from benchmarks import events
from shared import delivery
from shared.broker import Broker

NAME = "benchmarks.pour"
_TICK_SECONDS = 0.005  # between two looks at the clock


async def poured(url: str, count: int, domains: int, size: int, rate: float) -> float:
    """Publish `count` events of so many domains, `size` a message and `rate` a second.

    Gives the seconds until the last is confirmed.
    """
    made = events.sightings(domains)
    items = [
        delivery.publishing(events.report(list(islice(made, size)))) for _ in range(count // size)
    ]
    async with Broker.connect(url, "pour") as broker, asyncio.TaskGroup() as group:
        begun, sent = time.perf_counter(), 0
        while sent < len(items):
            due = min(len(items), int((time.perf_counter() - begun) * rate / size) + 1)
            for item in items[sent:due]:
                group.create_task(broker.send(item))
            sent = due
            await asyncio.sleep(_TICK_SECONDS)
    return time.perf_counter() - begun


def main() -> None:
    """Do the task on standard input."""
    task: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(poured(**task))))


if __name__ == "__main__":
    main()
