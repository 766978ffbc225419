"""A Celery worker with the same mails: four processes, all else as Celery has it by default.

By default a task is acknowledged before it runs: what a worker holds when it dies is lost.
"""

import importlib.util
import sys
from dataclasses import asdict, dataclass

from benchmarks.bench import Bench
from benchmarks.sink import Sink

TASKS = "benchmarks.tasks"
PROCESSES = 4
_FILL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Queue:
    """`count` tasks that mail to an SMTP server on `smtp_port` of 127.0.0.1."""

    amqp_url: str
    count: int
    smtp_port: int


def obstacle() -> str | None:
    """Tell why there is no Celery; nothing else here needs it."""
    found = importlib.util.find_spec("celery") is not None
    return None if found else "`make bench` installs it from requirements-bench.lock"


async def drained(bench: Bench, served: Sink, count: int) -> float:
    """Let a worker empty a queue that was filled before it starts; give its mails a second.

    Raises BenchError.
    """
    async with bench.vhost() as amqp_url:
        await bench.ask(TASKS, asdict(Queue(amqp_url, count, served.port)), _FILL_SECONDS)
        command = [sys.executable, "-m", "celery", "-A", TASKS, "-b", amqp_url, "worker"]
        options = ["--concurrency", str(PROCESSES), "--loglevel", "WARNING"]
        expected = served.count() + count
        async with bench.running("celery", [*command, *options], {}) as process:
            rate = await served.reach(expected, process)
        served.expect(expected)
    return rate
