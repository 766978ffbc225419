"""The sender's parts without RabbitMQ: the cost of a mail, and the number of mails at a time.

The cost is the processor time of all that `services.sender` does between a delivery and its
acknowledgement: bodies of commands in, mails to an SMTP server, outcomes kept in SQLite, bodies of
events out. The number of mails at a time is looked for at a relay that serves a few: the simulator
plays it, in a process of its own. Beside the number that the sender finds by itself some fixed ones
are measured, with as many connections and nothing that adapts.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import aiohttp

from benchmarks import mail, report, sink
from benchmarks.bench import Bench, BenchError, BenchPlan
from benchmarks.sink import Sink
from ops import ports
from ops.simulator.behaviour import Behaviour
from services.sender import service
from services.sender.config import KEPT_SECONDS
from services.sender.handlers import SendHandler
from services.sender.mail.builder import MailBuilder
from services.sender.mail.compose import MailDefaults, OutgoingMail
from services.sender.outcome import NotAttempted, Replies, Unsendable
from services.sender.schedule import RetrySchedule
from services.sender.smtp.connect import connect
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.rate_limits import Throttle
from services.sender.smtp.relay import ConnectionLimits, Relay, Tls
from services.sender.store import ClaimStore
from services.sender.tables import paces
from shared import contracts
from shared.contracts import Category, EmailDelivered, SendEmail
from shared.replies.reply import accepted
from shared.runtime import log
from shared.runtime.sealing import AddressHasher
from shared.storage.database import Database
from shared.storage.rate import Rate
from shared.storage.rate_limit import TokenBuckets
from shared.topology import sending_queue

_CATEGORY = Category.TRANSACTIONAL
_WARM_UP_MAILS = 500  # not counted: connections are opened, statements made, a limit found
_MAILS_PER_CONNECTION = 4  # at a time: claims and outcomes wait for their commits
_MICROSECONDS = 1_000_000
MAX_OPEN = 64  # connections that the sender may open
WANTED_SHARE = 0.9  # of the best fixed number
_MAX_MAILS = 1000  # over one connection
_DEADLINE_SECONDS = 60.0

PLAYS = (
    Behaviour(service_ms=50, served_at_once=4),
    Behaviour(service_ms=100, served_at_once=16),
    Behaviour(service_ms=100, served_at_once=16, latency_ms=20),
)


class Cost(NamedTuple):
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


async def cost(bench: Bench, served: Sink, count: int, connections: int) -> Cost:
    """Measure a process that sends `count` mails. Raises BenchError."""
    with TemporaryDirectory(dir=bench.directory) as directory:
        expected = served.count() + _WARM_UP_MAILS + count
        found = await bench.call(send_all, served.port, count, connections, Path(directory))
    served.expect(expected)
    return found


async def send_all(port: int, count: int, connections: int, directory: Path) -> Cost:
    """Send mails to a port of 127.0.0.1, with claims in `directory`.

    Return their cost, without that of the first ones.
    """
    # A line a mail is part of its cost.
    with (directory / "log").open("w") as file, redirect_stdout(file):
        log.configure("sender", "INFO")
        async with _sender(port, connections, directory) as sender:
            await _sent(sender, _bodies(_WARM_UP_MAILS), connections * _MAILS_PER_CONNECTION)
            bodies, begun = _bodies(count), _clocks()
            await _sent(sender, bodies, connections * _MAILS_PER_CONNECTION)
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
async def _sender(port: int, connections: int, directory: Path) -> AsyncIterator[SendHandler]:
    limits = ConnectionLimits(connections, 100, idle_seconds=60.0, kept_seconds=KEPT_SECONDS)
    writer = MailBuilder(_opened, MailDefaults(mail.SENDER, "bench.example"), {})
    schedule = RetrySchedule(60.0, 3600.0, 86_400.0, retries_uncertain=True)
    async with Database.open("sender", None, directory, service.MIGRATIONS) as database:
        throttle = Throttle(TokenBuckets(database, paces), {})
        async with SmtpPool([_relay(port)], limits, _CATEGORY, throttle, _now) as pool:
            store = ClaimStore(database, AddressHasher(b""))
            yield SendHandler(pool, writer, store, _now, schedule)


def _opened(_: str, context: str) -> bytes:
    raise ValueError(f"{context} is not sealed")


def _relay(port: int) -> Relay:
    return Relay("127.0.0.1", port, Tls.NONE)


def _now() -> datetime:
    return datetime.now(UTC)


async def cost_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure the cost of a mail, and yield it each time."""
    program = sink.best()
    yield (
        f"\n{plan.count:,} mails by the sender without RabbitMQ to {program.name},"
        f" {plan.connections} SMTP connections, {plan.repetitions} times"
    )
    async with sink.serving(bench, program) as served:
        for _ in range(plan.repetitions):
            spent = await cost(bench, served, plan.count, plan.connections)
            yield spent.described(plan.count)


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds of sending: with each fixed number, while the sender looks for its own, and then."""

    fixed: float = 2.0
    start: float = 2.0
    later: float = 5.0


@dataclass(frozen=True, slots=True)
class KneeRates:
    """Mails a second: with each fixed number, and with the sender's own, at first and later."""

    fixed: Mapping[int, float]
    start: float
    later: float

    @property
    def described(self) -> str:
        """The rates, each beside the best of the fixed numbers, and whether that is enough."""
        best = max(self.fixed.values())
        rows = [(f"{number} at a time", rate) for number, rate in self.fixed.items()]
        rows += [("found, while looking", self.start), ("found", self.later)]
        cells = [[name, f"{rate:,.0f}", f"{rate / best:.2f}"] for name, rate in rows]
        verdict = report.REACHED if self.later >= WANTED_SHARE * best else report.MISSED
        table = report.aligned([["", "mails/s", "of the best"], *cells])
        return f"{table}\n  wanted are {WANTED_SHARE:g} of the best: {verdict}"


class Unlimited:
    """A rate store without any rate."""

    async def take(self, name: str, count: int, room: int, rate: Rate) -> float:
        """Return no wait."""
        del name, count, room, rate
        return 0.0


@asynccontextmanager
async def playing(bench: Bench) -> AsyncIterator[tuple[int, int]]:
    """Run a simulator; the value is the ports of its SMTP server and API. Raises BenchError."""
    smtp, web = ports.unused(2)
    flags = ["--smtp-port", str(smtp), "--mailbox-port", str(web)]
    command = [sys.executable, "-m", "ops.simulator", *flags]
    async with bench.running("simulator", command, {}) as process:
        await bench.listening("simulator", process, smtp)
        await bench.listening("simulator", process, web)
        yield smtp, web


def about(play: Behaviour) -> str:
    """Describe the relay."""
    return (
        f"a relay {play.latency_ms} ms away that serves {play.served_at_once} mails at a time,"
        f" each for {play.service_ms} ms"
    )


async def knee(smtp: int, web: int, play: Behaviour, spans: Spans) -> KneeRates:
    """Measure one relay. Raises BenchError."""
    url = f"http://127.0.0.1:{web}/api/behaviour"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.put(url, json=play.model_dump(), raise_for_status=True),
        ):
            pass
    except aiohttp.ClientError as error:
        raise BenchError(f"the simulator cannot be set up: {error}") from error
    relay = _relay(smtp)
    fixed = {number: await _fixed(relay, number, spans.fixed) for number in _numbers(play)}
    start, later = await _found(relay, [spans.start, spans.later])
    return KneeRates(fixed, start, later)


def _numbers(play: Behaviour) -> Sequence[int]:
    """Return half of the number that the relay serves at a time, that number, and more."""
    knee = play.served_at_once or 1
    return [knee // 2, knee, knee * 3 // 2, knee * 2]


async def _fixed(relay: Relay, number: int, seconds: float) -> float:
    deadline = asyncio.get_running_loop().time() + _DEADLINE_SECONDS
    free = [await connect(relay, deadline) for _ in range(number)]

    async def send(letter: OutgoingMail) -> None:
        connection = free.pop()  # there is one for each mail under way
        _see(await connection.transact(letter, deadline))
        free.append(connection)

    [rate] = await _rates(send, number, [seconds])
    await asyncio.gather(*(connection.quit() for connection in free))
    return rate


async def _found(relay: Relay, spans: Sequence[float]) -> Sequence[float]:
    limits = ConnectionLimits(MAX_OPEN, _MAX_MAILS, _DEADLINE_SECONDS, KEPT_SECONDS)
    throttle = Throttle(Unlimited(), {})
    async with SmtpPool([relay], limits, "bench", throttle, _now) as pool:

        async def send(letter: OutgoingMail) -> None:
            _see(await pool.send(letter))

        return await _rates(send, 2 * MAX_OPEN, spans)


async def _rates(
    send: Callable[[OutgoingMail], Awaitable[None]], hands: int, spans: Sequence[float]
) -> Sequence[float]:
    """Keep `hands` mails in flight; return the mails a second in each span of seconds."""
    sent, over = 0, False
    letter = OutgoingMail("post@bench.example", (mail.recipient(0),), mail.ready_made(), False)  # noqa: FBT003 -- ASCII

    async def hand() -> None:
        nonlocal sent
        while not over:
            await send(replace(letter))
            sent += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(hands):
            group.create_task(hand())
        rates = []
        for seconds in spans:
            before, begun = sent, time.perf_counter()
            await asyncio.sleep(seconds)
            rates.append((sent - before) / (time.perf_counter() - begun))
        over = True
    return rates


def _see(result: Replies | Unsendable | NotAttempted) -> None:
    if not isinstance(result, Mapping) or not all(map(accepted, result.values())):
        raise BenchError(f"a mail was not taken: {result}")


async def knee_lines(bench: Bench, _: BenchPlan) -> AsyncIterator[str]:
    """Measure each relay, and yield its rates and the verdict."""
    async with playing(bench) as (smtp, web):
        for play in PLAYS:
            yield f"\n{about(play)}:"
            yield (await knee(smtp, web, play, Spans())).described
