"""Run as a process: pour events into RabbitMQ at a set rate, whatever becomes of them.

A task comes in as JSON, the seconds that it took go out as JSON. What is said is made before.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from benchmarks import events
from services.classifier.rule import Mode
from shared import delivery
from shared.broker import Broker

NAME = "benchmarks.pour"
_TICK_SECONDS = 0.005  # between two looks at the clock


@dataclass(frozen=True, slots=True)
class Task:
    """Publish `count` events of so many domains, `size` a message and `rate` a second."""

    url: str
    count: int
    domains: int
    size: int
    rate: float
    mode: Mode


async def poured(task: Task) -> float:
    """Do a task; give the seconds until the last event is confirmed."""
    made, size = events.sightings(task.domains, mode=task.mode), task.size
    items = [
        delivery.publishing(events.report(list(islice(made, size))))
        for _ in range(task.count // size)
    ]
    async with Broker.connect(task.url, "pour") as broker, asyncio.TaskGroup() as group:
        begun, sent = time.perf_counter(), 0
        while sent < len(items):
            due = min(len(items), int((time.perf_counter() - begun) * task.rate / size) + 1)
            for item in items[sent:due]:
                group.create_task(broker.send(item))
            sent = due
            await asyncio.sleep(_TICK_SECONDS)
    return time.perf_counter() - begun


def main() -> None:
    """Do the task on standard input."""
    given: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    task = Task(**{**given, "mode": Mode(given["mode"])})
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(poured(task))))


if __name__ == "__main__":
    main()
