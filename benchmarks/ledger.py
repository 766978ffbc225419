"""How fast the ledger records mails out of RabbitMQ.

Each mail is two events, its command and its outcome, and each takes the whole path: out of
RabbitMQ, read, recorded in a database, committed, acknowledged. All wait before the ledger starts,
in the order in which they come at that rate: outcomes follow their commands by some thousands.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import mail
from benchmarks.bench import Bench, BenchError, peak_memory
from ops import ports
from shared.broker import Broker
from shared.contracts import Category, Contract, EmailDelivered, Reply, SendEmail, Stage
from shared.topology import LEDGER_MAIL, Owner

NAME = "bench"  # of our connection to the broker
MODULE = "services.ledger"
SERVICE = (sys.executable, "-m", MODULE)
WANTED_RATE = 10_000  # events a second
MAX_SLOWER_SHARE = 0.2  # of a drain beside it
OUTCOME_LAG = 2000  # mails between a command and its outcome
_MAX_PUBLISHING = 500  # messages at once
_RECORD_SECONDS = 300.0  # for all of it
_LOOK_SECONDS = 0.05  # between two looks at the metrics
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LedgerPlan:
    """How many mails to so many domains."""

    mails: int
    domains: int


class Recorded(NamedTuple):
    """One emptied queue: events a second, processor seconds of each, the most memory in octets."""

    rate: float
    processor: float
    memory: int


async def recorded(place: Bench, plan: LedgerPlan, command: Sequence[str] = SERVICE) -> Recorded:
    """Measure a ledger that records waiting events in SQLite."""
    count = 2 * plan.mails
    async with filled(place, plan) as amqp_url:
        [health_port] = ports.unused(1)
        environment = settings(place, amqp_url, health_port)
        async with place.running("ledger", command, environment) as process:
            await place.listening("ledger", process, health_port)
            before = _processor_seconds(process.pid)
            async with asyncio.timeout(_RECORD_SECONDS):
                rate = await _watch(health_port, count)
            spent = (_processor_seconds(process.pid) - before) / count
            return Recorded(rate, spent, peak_memory(process.pid))


@asynccontextmanager
async def running(place: Bench, amqp_url: str) -> AsyncIterator[None]:
    """Run a ledger beside another measurement."""
    [health_port] = ports.unused(1)
    environment = settings(place, amqp_url, health_port)
    async with place.running("ledger", SERVICE, environment):
        yield


def settings(place: Bench, amqp_url: str, health_port: int) -> dict[str, str]:
    """Return the environment of a ledger that has recorded nothing before."""
    return {
        "AMQP_URL": amqp_url,
        "DATA_DIR": str(place.directory / f"data-{health_port}"),
        "HEALTH_PORT": str(health_port),
        "SUPPRESSION_KEY": secrets.token_hex(32),
    }


@asynccontextmanager
async def filled(place: Bench, plan: LedgerPlan) -> AsyncIterator[str]:
    """Open a vhost in which all events wait; the value is its AMQP URL."""
    owners = (Owner.LEDGER, Owner.SENDER)  # a mail is published only with a queue to send from
    async with place.vhost(*owners) as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        batch: list[Contract] = []
        for each in events(plan):
            batch.append(each)
            if len(batch) == _MAX_PUBLISHING:
                await asyncio.gather(*map(broker.publish, batch))
                batch.clear()
        await asyncio.gather(*map(broker.publish, batch))
        yield amqp_url


def events(plan: LedgerPlan) -> Iterator[Contract]:
    """Yield the commands and, OUTCOME_LAG later, the outcomes of some mails."""
    run = secrets.token_hex(4)
    commands = [_command(f"{run}-{number}", number, plan) for number in range(plan.mails)]
    lag = min(OUTCOME_LAG, plan.mails)
    yield from commands[:lag]
    for command, later in zip(commands, commands[lag:], strict=False):
        yield from (later, _delivered(command))
    yield from map(_delivered, commands[plan.mails - lag :])


def _command(email_id: str, number: int, plan: LedgerPlan) -> SendEmail:
    recipient = f"user{number}@domain{number % plan.domains:06d}.example"
    made = mail.command(email_id, recipient)
    at = _START + timedelta(milliseconds=number)
    return made.model_copy(update={"client": "bench", "created_at": at})


def _delivered(command: SendEmail) -> EmailDelivered:
    return EmailDelivered.model_construct(
        id=f"e-{command.id}",
        at=(command.created_at or _START) + timedelta(seconds=1),
        email_id=command.id,
        category=Category.TRANSACTIONAL,
        client="bench",
        message_id=f"<{command.id}@bench.example>",
        recipient=command.recipients[0],
        attempt=1,
        reply=Reply(stage=Stage.DOT, code=250, enhanced="2.0.0", text="Ok: queued as 4DF3A1C0"),
    )


async def _watch(health_port: int, count: int) -> float:
    """Look at the metrics until all events are done; return the rate from the first look on."""
    first, begun = 0, 0.0
    async with aiohttp.ClientSession() as session:
        while True:
            done, now = await _done(session, health_port), time.perf_counter()
            if done >= count:
                break
            if done and not begun:
                first, begun = done, now
            await asyncio.sleep(_LOOK_SECONDS)
    if not begun:
        raise BenchError("all events were recorded at the first look: measure more of them")
    return (done - first) / (now - begun)


async def _done(session: aiohttp.ClientSession, health_port: int) -> int:
    url = f"http://127.0.0.1:{health_port}/metrics"
    async with session.get(url, raise_for_status=True) as response:
        text = await response.text()
    return int(
        sum(
            sample.value
            for sample in chain.from_iterable(
                family.samples for family in text_string_to_metric_families(text)
            )
            if sample.name == "postrider_deliveries_total"
            and sample.labels == {"queue": LEDGER_MAIL, "end": "done"}
        )
    )


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
