"""The processor time that a mail costs the sender, without the cost of RabbitMQ.

Bodies of commands in, mails to an SMTP server, outcomes kept in SQLite, bodies of events out: all
that `services.sender` does between a delivery and its acknowledgement. Reads its task as JSON from
standard input and writes the cost to standard output.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import orjson
import uvloop

from benchmarks import mail
from benchmarks.bench import Bench
from benchmarks.sink import Sink
from services.sender import service
from services.sender.config import KEPT_SECONDS
from services.sender.handlers import SendHandler
from services.sender.mail.builder import MailBuilder
from services.sender.mail.compose import MailDefaults
from services.sender.schedule import RetrySchedule
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.rate_limits import Throttle
from services.sender.smtp.relay import ConnectionLimits, Relay, Tls
from services.sender.store import ClaimStore
from services.sender.tables import paces
from shared import contracts
from shared.contracts import Category, EmailDelivered, SendEmail
from shared.runtime import log
from shared.runtime.sealing import AddressHasher
from shared.storage.database import Database
from shared.storage.rate_limit import TokenBuckets
from shared.topology import sending_queue

_MODULE = "benchmarks.cost"
_CATEGORY = Category.TRANSACTIONAL
_WARM_UP_MAILS = 500  # not counted: connections are opened, statements made, a limit found
_MAILS_PER_CONNECTION = 4  # at a time: claims and outcomes wait for their commits
_WITHIN_SECONDS = 300.0
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Task:
    """Send `count` mails over `connections` to a port of 127.0.0.1, with claims in `directory`."""

    port: int
    count: int
    connections: int
    directory: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for all mails: of the processor, of it in the event loop's thread, by the clock."""

    processor: float
    loop: float
    clock: float

    def described(self, count: int) -> str:
        """Describe the cost of one of `count` mails."""
        whole, loop = (each / count * _MICROSECONDS for each in (self.processor, self.loop))
        return (
            f"  {whole:.0f} µs of processor time a mail, {loop:.0f} of them in the event loop;"
            f" {count / self.clock:,.0f} mails/s"
        )


async def measured(place: Bench, served: Sink, count: int, connections: int) -> Cost:
    """Measure a process that sends `count` mails. Raises BenchError."""
    with TemporaryDirectory(dir=place.directory) as directory:
        task = Task(served.port, count, connections, directory)
        expected = served.count() + _WARM_UP_MAILS + count
        cost = Cost(**await place.ask(_MODULE, asdict(task), _WITHIN_SECONDS))
    served.expect(expected)
    return cost


async def send_all(task: Task) -> Cost:
    """Send all mails of a task; return their cost, without the first ones."""
    async with _sender(task) as sender:
        concurrency = task.connections * _MAILS_PER_CONNECTION
        await _sent(sender, _bodies(_WARM_UP_MAILS), concurrency)
        bodies = _bodies(task.count)
        begun = _clocks()
        await _sent(sender, bodies, concurrency)
        ended = _clocks()
    return Cost(*(end - begin for begin, end in zip(begun, ended, strict=True)))


def _clocks() -> tuple[float, float, float]:
    return time.process_time(), time.thread_time(), time.perf_counter()


def _bodies(count: int) -> Sequence[bytes]:
    """Write commands as the gateway does."""
    accepted = {"created_at": _now()}
    commands = (mail.command(str(uuid.uuid4()), mail.recipient(each)) for each in range(count))
    return [contracts.encode(each.model_copy(update=accepted)) for each in commands]


async def _sent(sender: SendHandler, bodies: Sequence[bytes], concurrency: int) -> None:
    waiting = iter(bodies)
    await asyncio.gather(*(_hand(sender, waiting) for _ in range(concurrency)))


async def _hand(sender: SendHandler, waiting: Iterator[bytes]) -> None:
    """Send until `waiting`, which all share, is used up."""
    queue, key = sending_queue(_CATEGORY), f"email.send.{_CATEGORY}"
    for body in waiting:
        command = cast("SendEmail", contracts.decode(key, body))
        log.bind({"queue": queue, "type": key, "id": command.id})
        for event in await sender.on_send_email(command):
            contracts.encode(cast("EmailDelivered", event))


@asynccontextmanager
async def _sender(task: Task) -> AsyncIterator[SendHandler]:
    relay = Relay("127.0.0.1", task.port, Tls.NONE)
    limits = ConnectionLimits(task.connections, 100, idle_seconds=60.0, kept_seconds=KEPT_SECONDS)
    data, tables = Path(task.directory), service.MIGRATIONS
    writer = MailBuilder(_opened, MailDefaults(mail.SENDER, "bench.example"), {})
    schedule = RetrySchedule(60.0, 3600.0, 86_400.0, retries_uncertain=True)
    async with Database.open("sender", None, data, tables) as database:
        throttle = Throttle(TokenBuckets(database, paces), {})
        async with SmtpPool([relay], limits, _CATEGORY, throttle, _now) as pool:
            yield SendHandler(
                pool, writer, ClaimStore(database, AddressHasher(b"")), _now, schedule
            )


def _opened(_: str, context: str) -> bytes:
    raise ValueError(f"{context} is not sealed")


def _now() -> datetime:
    return datetime.now(UTC)


def _main() -> None:
    task = Task(**orjson.loads(sys.stdin.buffer.read()))
    # A line a mail is part of its cost.
    with (Path(task.directory) / "log").open("w") as file, redirect_stdout(file):
        log.configure("sender", "INFO")
        cost = uvloop.run(send_all(task))
    sys.stdout.write(orjson.dumps(asdict(cost)).decode())


if __name__ == "__main__":
    _main()
