"""How fast the ledger records mails out of RabbitMQ, and answers about a million of them.

Each mail is two events, its command and its outcome, and each takes the whole path: out of
RabbitMQ, read, recorded in a database, committed, acknowledged. All wait before the ledger starts,
in the order in which they come at that rate: outcomes follow their commands by some thousands.

For the questions the database is filled by the ledger's own transactions, without RabbitMQ. Then
ledger and gateway run as they do in production, and each request takes the whole path: HTTP, the
question and its answer through RabbitMQ, the tables.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from benchmarks import drain, mail, report, sink
from benchmarks.accept import HttpLoad, answers, series
from benchmarks.bench import Bench, BenchPlan, in_turns, load_average
from benchmarks.report import Series
from benchmarks.services import NAME, Vhost, database
from services.ledger.mails import (
    DAY_MILLISECONDS,
    Acceptance,
    EarlyOutcome,
    RecordedOutcome,
    milliseconds,
)
from services.ledger.service import MIGRATIONS
from services.ledger.store.forgetting import ForgottenAddresses
from services.ledger.store.recording import MailRecord, RecordingTransaction
from shared.contracts import (
    Category,
    Contract,
    EmailDelivered,
    EmailStatus,
    Reply,
    SendEmail,
    Stage,
)
from shared.return_path import mail_key
from shared.runtime.sealing import AddressHasher
from shared.storage.database import Database
from shared.topology import LEDGER_MAIL, Owner

WANTED_RATE = 10_000  # events a second
MAX_SLOWER_SHARE = 0.2  # of a drain beside it
OUTCOME_LAG = 2000  # mails between a command and its outcome
WANTED_READ_P99_SECONDS = 0.010
READS, READERS = 1000, 4  # requests of each kind, HTTP connections
RECORDED_DOMAINS, KNOWN_DOMAINS = 5000, 1000  # of the recipients
DAYS = 30  # over which the known mails were accepted
BATCH_SIZE = 10_000  # mails a transaction
BOUNCED_SHARE, WAITING_SHARE, TAGGED_SHARE = 0.02, 0.01, 0.1
_RECORD_SECONDS = 300.0  # for all of it
_START = datetime(2026, 1, 1, tzinfo=UTC)
_TRANSACTIONAL, _BULK = map([*Category].index, (Category.TRANSACTIONAL, Category.BULK))
_DELIVERED, _BOUNCED = map([*EmailStatus].index, (EmailStatus.DELIVERED, EmailStatus.BOUNCED))
_REPLY = '{"reply":{"stage":"dot","code":250,"text":"2.0.0 Ok"},"message_id":"<m@bench.example>"}'
_REFUSAL = (
    '{"reply":{"stage":"rcpt","code":550,"enhanced":"5.1.1","text":"no such user"},'
    '"reply_class":"mailbox_unknown"}'
)


class Recorded(NamedTuple):
    """One emptied queue: events a second, processor seconds of each, the most memory in octets."""

    rate: float
    processor: float
    memory: int


async def recorded(bench: Bench, mails: int) -> Recorded:
    """Measure a ledger that records waiting events of so many mails in SQLite."""
    # A mail is published only with a queue to send from.
    async with Vhost.opened(bench, (Owner.LEDGER, Owner.SENDER)) as vhost:
        await vhost.publish(events(mails))
        async with vhost.running("ledger") as service:
            before = service.processor
            async with asyncio.timeout(_RECORD_SECONDS):
                rate = await service.rate(
                    2 * mails, "postrider_deliveries_total", queue=LEDGER_MAIL, end="done"
                )
            return Recorded(rate, (service.processor - before) / (2 * mails), service.memory)


def events(mails: int) -> Iterator[Contract]:
    """Yield the commands and, OUTCOME_LAG later, the outcomes of some mails."""
    run = secrets.token_hex(4)
    commands = [_command(f"{run}-{number}", number) for number in range(mails)]
    lag = min(OUTCOME_LAG, mails)
    yield from commands[:lag]
    for command, later in zip(commands, commands[lag:], strict=False):
        yield from (later, _delivered(command))
    yield from map(_delivered, commands[mails - lag :])


def _command(email_id: str, number: int) -> SendEmail:
    made = mail.command(email_id, f"user{number}@domain{number % RECORDED_DOMAINS:06d}.example")
    at = _START + timedelta(milliseconds=number)
    return made.model_copy(update={"client": NAME, "created_at": at})


def _delivered(command: SendEmail) -> EmailDelivered:
    return EmailDelivered.model_construct(
        id=f"e-{command.id}",
        at=(command.created_at or _START) + timedelta(seconds=1),
        email_id=command.id,
        category=Category.TRANSACTIONAL,
        client=NAME,
        message_id=f"<{command.id}@bench.example>",
        recipient=command.recipients[0],
        attempt=1,
        reply=Reply(stage=Stage.DOT, code=250, enhanced="2.0.0", text="Ok: queued as 4DF3A1C0"),
    )


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure recording, and drains with a ledger and without; yield tables and verdicts."""
    yield f"\n{plan.events:,} commands and outcomes recorded; {load_average()}"
    found = [await recorded(bench, plan.events // 2) for _ in range(plan.repetitions)]
    recording = Series("recorded out of RabbitMQ", [each.rate for each in found])
    yield report.table("events/s", [recording])
    yield report.at_least(recording, WANTED_RATE)
    yield f"  {min(each.processor for each in found) * 1e6:.1f} µs of processor time an event"
    async with sink.serving(bench, sink.best()) as served:
        yield drain.title(served.name, plan)
        drains = await in_turns(
            {
                name: partial(drain.drained, bench, served, plan, recorded=beside)
                for name, beside in (("with the ledger", True), ("without", False))
            },
            plan.repetitions,
        )
    beside, without = (Series(name, [each.rate for each in some]) for name, some in drains.items())
    yield report.table("mails/s", [beside, without])
    yield report.no_slower(beside, without, MAX_SLOWER_SHARE)


async def read_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure each kind of request on each database; yield the tables and their verdicts."""
    for name in plan.databases:
        found = await reads(bench, name, plan.known, READS, plan.repetitions)
        yield (
            f"\n{READS:,} requests of each kind over {READERS} HTTP connections,"
            f" {plan.repetitions} times, {plan.known:,} mails known in {name}; {load_average()}"
        )
        yield report.table("requests/s", found)
        for each in found:
            yield report.soon(each, WANTED_READ_P99_SECONDS)


async def reads(
    bench: Bench, name: str, mails: int, count: int, repetitions: int
) -> Sequence[Series]:
    """Measure so many requests of each kind on a database that knows so many mails."""
    data, found = bench.directory / f"known-{secrets.token_hex(4)}", []
    async with Vhost.opened(bench) as vhost, database(bench, name) as settings:
        await fill(settings.get("DATABASE_URL"), data, mails)
        async with vhost.running("ledger", data, **settings), vhost.gateway() as gateway:
            for kind, paths in _requests(mails, count).items():
                requests = [gateway.request("GET", path) for path in paths]
                load = HttpLoad(gateway.port, requests, READERS)
                times = [await answers(bench, load) for _ in range(repetitions)]
                found.append(series(kind, times))
    return found


def _requests(mails: int, count: int) -> Mapping[str, Sequence[str]]:
    """Return the paths of each kind of request, of mails spread over all of them."""
    chance = random.Random(17)  # noqa: S311 -- which mails, not a secret
    numbers = [chance.randrange(mails) for _ in range(count)]
    return {
        "one mail": [f"/v1/messages/m-{number}" for number in numbers],
        "by recipient": [f"/v1/messages?recipient={_address(number)}" for number in numbers],
        "by status": ["/v1/messages?status=bounced&limit=10"] * count,
        "by tag": ["/v1/messages?tag=campaign:spring&limit=10"] * count,
        "the newest": ["/v1/messages?limit=10"] * count,
        "sums by day": ["/v1/stats?by=day&timezone=Europe/Vienna"] * count,
    }


async def fill(url: str | None, folder: Path, mails: int) -> None:
    """Record mails and their outcomes in an empty database."""
    now = milliseconds(datetime.now(UTC))
    places = itertools.count()
    async with Database.open("ledger", url, folder, MIGRATIONS) as opened:
        for first in range(0, mails, BATCH_SIZE):
            numbers = range(first, min(first + BATCH_SIZE, mails))
            work = partial(_record, numbers=numbers, mails=mails, now=now, places=places)
            await opened.write(work)
        await opened.write(lambda connection: connection.execute(sa.text("ANALYZE")))


def _record(
    connection: sa.Connection, numbers: range, mails: int, now: int, places: Iterator[int]
) -> None:
    records = [each for number in numbers for each in _mail(number, mails, now)]
    nobody = ForgottenAddresses(AddressHasher(bytes(32)), {})
    RecordingTransaction(connection, now, places, nobody).record(records)


def _mail(number: int, mails: int, now: int) -> Iterator[MailRecord]:
    """Yield a mail, and its outcome if it has one."""
    chance = random.Random(number)  # noqa: S311 -- the same mails each time
    at = now - DAYS * DAY_MILLISECONDS * (mails - number) // mails
    email_id, recipient = f"m-{number}", _address(number)
    key = mail_key(email_id, NAME)
    yield Acceptance(
        key=key,
        email_id=email_id,
        client=NAME,
        category=_BULK if number % 2 else _TRANSACTIONAL,
        accepted_at=at,
        expires_at=None,
        recipients=(recipient,),
        sender=None,
        subject=mail.SUBJECT,
        list_id=None,
        tags={"campaign": "spring"} if chance.random() < TAGGED_SHARE else {},
        metadata={},
        size_bytes=2000,
        scheduled_at=None,
    )
    end = chance.random()
    if end > WAITING_SHARE:
        status, detail = (_BOUNCED, _REFUSAL) if end > 1 - BOUNCED_SHARE else (_DELIVERED, _REPLY)
        yield EarlyOutcome(key, RecordedOutcome(recipient, 1, status, status, at + 500, detail))


def _address(number: int) -> str:
    return f"user{number}@domain{number % KNOWN_DOMAINS}.example"
