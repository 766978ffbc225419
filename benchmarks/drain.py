"""How fast the sender empties its queue, and a bare loop over the same SMTP server.

The road of each mail is the whole one: out of RabbitMQ, composed, sent, its outcome published and
confirmed, the command acknowledged. The rate is taken from the times that the outcomes tell, from
the first to the last.
"""

import asyncio
import secrets
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks import mail, memory, outcomes, timings
from benchmarks.bare import Task
from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.sink import Sink
from benchmarks.timings import Timings
from ops import ports
from shared.broker import Broker
from shared.contracts import Category, EmailDelivered
from shared.topology import dead_queue, sending_queue

NAME = "bench"  # by which the broker knows us
QUEUE = sending_queue(Category.TRANSACTIONAL)
SERVICE = "services.sender"
SENDER = (sys.executable, "-m", SERVICE)
_BARE_SECONDS = 300.0
_BATCH = 500  # commands


@dataclass(frozen=True, slots=True)
class Plan:
    """How many mails over how many SMTP connections."""

    count: int
    connections: int


@dataclass(frozen=True, slots=True)
class Drained:
    """One emptied queue: mails a second, where the time went, and the most memory in octets."""

    rate: float
    timings: Timings
    memory: int


async def drained(
    bench: Bench, served: Sink, plan: Plan, command: Sequence[str] = SENDER
) -> Drained:
    """Let the sender empty a queue that was filled before it starts."""
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        ids = {str(uuid.uuid4()) for _ in range(plan.count)}
        await fill(broker, sorted(ids))
        expected = served.count() + plan.count
        [health_port] = ports.unused(1)
        environment = settings(bench, amqp_url, served.port, plan.connections, health_port)
        async with bench.running("sender", command, environment) as process:
            await served.reach(expected, process)
            spent = await timings.fetch(health_port)
            most = memory.peak(process.pid)
        told = await outcomes.read(broker, plan.count)
        await _check(broker, served, expected)
    if {each.email_id for each in told} != ids:
        raise BenchError("the outcomes are not those of the mails")
    return Drained(_rate(told), spent, most)


async def looped(bench: Bench, served: Sink, plan: Plan) -> float:
    """Send as many mails by the bare loop; give the mails a second."""
    expected = served.count() + plan.count
    task = Task(served.port, plan.count, plan.connections)
    seconds = await bench.ask("benchmarks.bare", asdict(task), _BARE_SECONDS)
    served.expect(expected)
    return plan.count / float(seconds)


async def fill(broker: Broker, ids: Sequence[str]) -> None:
    """Publish a batch at a time: each publishing has but seconds, the wait for others included."""
    for start in range(0, len(ids), _BATCH):
        batch = enumerate(ids[start : start + _BATCH], start)
        commands = [mail.command(each, mail.recipient(number)) for number, each in batch]
        await asyncio.gather(*map(broker.publish, commands))


async def _check(broker: Broker, served: Sink, expected: int) -> None:
    """See that every mail was sent once and nothing is left."""
    served.expect(expected)
    for queue in (QUEUE, dead_queue(QUEUE)):
        if left := await outcomes.waiting(broker, queue):
            raise BenchError(f"{left} messages are left in {queue}")


def _rate(told: Sequence[EmailDelivered]) -> float:
    times = [each.at for each in told]
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


def settings(
    bench: Bench, amqp_url: str, smtp_port: int, connections: int, health_port: int
) -> Mapping[str, str]:
    """Give the environment of a sender that has not sent any mail before."""
    return {
        "AMQP_URL": amqp_url,
        "DATA_DIR": str(bench.directory / f"data-{health_port}"),
        "HEALTH_PORT": str(health_port),
        "SEALING_KEY": secrets.token_hex(32),
        "SENDER_SMTP_HOST": "127.0.0.1",
        "SENDER_SMTP_PORT": str(smtp_port),
        "SENDER_SMTP_TLS": "none",
        "SENDER_FROM": mail.SENDER,
        "SENDER_CONNECTIONS_TRANSACTIONAL": str(connections),
    }
