"""How fast the sender empties its queue, and a bare loop over the same SMTP server.

Each mail takes the whole path: out of RabbitMQ, composed, sent, its outcome published and
confirmed, the command acknowledged. The rate is taken from the times of the outcomes, from the
first to the last.

Run as a module this is the bare loop around aiosmtplib with ready-made octets: no queue, no
outcome, no composing. It reads a SendTask as JSON from standard input and writes its seconds.
"""

import asyncio
import secrets
import sys
import time
import uuid
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import asdict, dataclass

import aiohttp
import orjson
import uvloop
from aiosmtplib import SMTP
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import bench, ledger, mail
from benchmarks.bench import Bench, BenchError
from benchmarks.sink import Sink
from ops import ports
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Category, EmailDelivered
from shared.topology import EVIDENCE, RUNNING, Owner, dead_queue, sending_queue, shard_queues

NAME = "bench"  # of our connection to the broker
NO_CLIENT: Sequence[str | None] = (None,)
SERVICE = "services.sender"
SENDER = (sys.executable, "-m", SERVICE)
_BARE_SECONDS = 300.0
_BATCH_SIZE = 500  # commands
_SAMPLE_SECONDS = 0.1
_READ_SECONDS = 60.0
_PREFETCH = 200
_HANDLING = "postrider_handling_seconds"
_TRANSACTION = "postrider_smtp_transaction_seconds"


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """How many mails over how many SMTP connections, of which clients in turn."""

    count: int
    connections: int
    clients: Sequence[str | None] = NO_CLIENT


@dataclass(frozen=True, slots=True)
class SendTask:
    """Send `count` mails over `connections` to a port of 127.0.0.1."""

    port: int
    count: int
    connections: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Means over all mails since the sender started, in seconds."""

    handling: float  # from delivery to acknowledgement
    smtp: float  # its part that is the SMTP transaction


@dataclass(frozen=True, slots=True)
class Drained:
    """One emptied queue: mails a second, where the time went, and the most memory in octets."""

    rate: float
    timings: Timings
    memory: int


async def drained(
    place: Bench,
    served: Sink,
    plan: DrainPlan,
    command: Sequence[str] = SENDER,
    *,
    recorded: bool = False,
) -> Drained:
    """Measure a sender that empties a queue which was filled before it starts.

    A `recorded` one has a ledger beside it, which records commands and outcomes meanwhile.
    """
    owners = [each for each in RUNNING if recorded or each is not Owner.LEDGER]
    async with place.vhost(*owners) as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        ids = {str(uuid.uuid4()) for _ in range(plan.count)}
        await fill(broker, sorted(ids), clients=plan.clients)
        expected = served.count() + plan.count
        [health_port] = ports.unused(1)
        environment = settings(place, amqp_url, served.port, plan.connections, health_port)
        async with (
            ledger.running(place, amqp_url) if recorded else nullcontext(),
            place.running("sender", command, environment) as process,
        ):
            await served.reach(expected, process)
            spent = await fetch_timings(health_port)
            most = bench.peak_memory(process.pid)
        outcomes = await read_outcomes(broker, plan.count)
        await _check(broker, served, expected)
    if {each.email_id for each in outcomes} != ids:
        raise BenchError("the outcomes are not those of the mails")
    return Drained(_rate(outcomes), spent, most)


async def looped(place: Bench, served: Sink, plan: DrainPlan) -> float:
    """Send as many mails by the bare loop; return the mails a second."""
    expected = served.count() + plan.count
    task = SendTask(served.port, plan.count, plan.connections)
    seconds = await place.ask("benchmarks.drain", asdict(task), _BARE_SECONDS)
    served.expect(expected)
    return plan.count / float(seconds)


async def memory_samples(
    place: Bench, served: Sink, waiting: int, plan: DrainPlan
) -> tuple[Sequence[int], int]:
    """Sample the sender's memory while it sends the first mails of `waiting` ones.

    In octets: every tenth of a second, and the most there ever was. Raises BenchError.
    """
    async with place.vhost() as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        await fill(broker, [str(uuid.uuid4()) for _ in range(waiting)])
        [health_port] = ports.unused(1)
        environment = settings(place, amqp_url, served.port, plan.connections, health_port)
        expected = served.count() + plan.count
        async with place.running("sender", SENDER, environment) as process:
            return await _samples(served, expected, process), bench.peak_memory(process.pid)


async def _samples(served: Sink, expected: int, process: Process) -> Sequence[int]:
    samples: list[int] = []
    reaching = asyncio.create_task(served.reach(expected, process))
    try:
        while not reaching.done():
            samples.append(bench.resident_memory(process.pid))
            await asyncio.wait({reaching}, timeout=_SAMPLE_SECONDS)
    finally:
        reaching.cancel()
    reaching.result()
    return samples


async def fill(
    broker: Broker,
    ids: Sequence[str],
    category: Category = Category.TRANSACTIONAL,
    clients: Sequence[str | None] = NO_CLIENT,
) -> None:
    """Publish a command for each id, a batch at a time: each publishing has but seconds."""
    for start in range(0, len(ids), _BATCH_SIZE):
        batch = enumerate(ids[start : start + _BATCH_SIZE], start)
        commands = [
            mail.command(each, mail.recipient(number)).model_copy(
                update={"category": category, "client": clients[number % len(clients)]}
            )
            for number, each in batch
        ]
        await asyncio.gather(*map(broker.publish, commands))


async def _check(broker: Broker, served: Sink, expected: int) -> None:
    """Check that every mail was sent once and nothing is left."""
    served.expect(expected)
    if left := await waiting_in_class(broker, Category.TRANSACTIONAL):
        raise BenchError(f"{left} messages are left")
    dead = dead_queue(sending_queue(Category.TRANSACTIONAL))
    if left := await waiting_in(broker, dead):
        raise BenchError(f"{left} messages are in {dead}")


def _rate(outcomes: Sequence[EmailDelivered]) -> float:
    times = [each.at for each in outcomes]
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


def settings(
    place: Bench, amqp_url: str, smtp_port: int, connections: int, health_port: int
) -> Mapping[str, str]:
    """Return the environment of a sender that has not sent any mail before."""
    return {
        "AMQP_URL": amqp_url,
        "DATA_DIR": str(place.directory / f"data-{health_port}"),
        "HEALTH_PORT": str(health_port),
        "SEALING_KEY": secrets.token_hex(32),
        "SUPPRESSION_KEY": secrets.token_hex(32),
        "SENDER_SMTP_HOST": "127.0.0.1",
        "SENDER_SMTP_PORT": str(smtp_port),
        "SENDER_SMTP_TLS": "none",
        "SENDER_FROM": mail.SENDER,
        "SENDER_CONNECTIONS_TRANSACTIONAL": str(connections),
    }


async def read_outcomes(broker: Broker, count: int) -> Sequence[EmailDelivered]:
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

    there = await waiting_in(broker, EVIDENCE)
    if there != count:
        raise BenchError(f"{there} outcomes of {count} mails")
    subscription = Subscription(EVIDENCE, {EmailDelivered: on_delivered}, prefetch=_PREFETCH)
    try:
        async with asyncio.timeout(_READ_SECONDS), broker.consuming(subscription):
            await complete.wait()
    except TimeoutError:
        raise BenchError(f"only {len(found)} of {count} mails were delivered") from None
    return found


async def waiting_in(broker: Broker, queue: str) -> int:
    """Return how many messages wait in a queue."""
    async with broker.browsing(queue) as browsed:
        return browsed.waiting


async def waiting_in_class(broker: Broker, category: Category) -> int:
    """Return how many mails of a class wait, in all of its queues."""
    queues = (sending_queue(category), *shard_queues(category))
    return sum([await waiting_in(broker, queue) for queue in queues])


async def fetch_timings(health_port: int) -> Timings:
    """Read the metrics of a running sender. Raises BenchError."""
    url = f"http://127.0.0.1:{health_port}/metrics"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, raise_for_status=True) as response,
        ):
            return parse_timings(await response.text())
    except aiohttp.ClientError as error:
        raise BenchError(f"the sender shows no metrics: {error}") from error


def parse_timings(text: str) -> Timings:
    """Parse the text format of Prometheus."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return Timings(_mean(sums, _HANDLING), _mean(sums, _TRANSACTION))


def _mean(sums: dict[str, float], name: str) -> float:
    count = sums.get(f"{name}_count", 0.0)
    return sums[f"{name}_sum"] / count if count else 0.0


async def send_all(task: SendTask) -> float:
    """Send all mails of a task; return the seconds, opening the connections not included."""
    content, numbers = mail.ready_made(), iter(range(task.count))
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(_client(task.port)) for _ in range(task.connections)
        ]
        begun = time.perf_counter()
        await asyncio.gather(*(_send(client, numbers, content) for client in clients))
        return time.perf_counter() - begun


async def _send(client: SMTP, numbers: Iterator[int], content: bytes) -> None:
    """Send until `numbers`, which all connections share, are used up."""
    for number in numbers:
        await client.sendmail("postrider@bench.example", [mail.recipient(number)], content)


def _client(port: int) -> SMTP:
    return SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="[127.0.0.1]")


if __name__ == "__main__":
    found = uvloop.run(send_all(SendTask(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.write(str(found))
