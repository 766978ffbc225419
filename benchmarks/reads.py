"""How soon the gateway answers about mails, with a million of them in the ledger.

The database is filled by the ledger's own transactions, without RabbitMQ. Then ledger and gateway
run as they do in production, and each request takes the whole path: HTTP, the question and its
answer through RabbitMQ, the tables.
"""

import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from benchmarks import accept, domains, ledger, mail
from benchmarks.accept import NAME, Gateway, HttpPlan
from benchmarks.bench import Bench
from benchmarks.report import Series
from ops import ports
from services.ledger.mails import (
    DAY_MILLISECONDS,
    Acceptance,
    EarlyOutcome,
    RecordedOutcome,
    mail_key,
    milliseconds,
)
from services.ledger.service import MIGRATIONS
from services.ledger.store.forgetting import ForgottenAddresses
from services.ledger.store.recording import MailRecord, RecordingTransaction
from shared.contracts import Category, EmailStatus
from shared.runtime.sealing import AddressHasher
from shared.storage.database import Database

WANTED_P99_SECONDS = 0.010
DAYS = 30  # over which the mails were accepted
BATCH_SIZE = 10_000  # mails a transaction
DOMAINS = 1000
BOUNCED_SHARE, WAITING_SHARE, TAGGED_SHARE = 0.02, 0.01, 0.1
_TRANSACTIONAL, _BULK = map([*Category].index, (Category.TRANSACTIONAL, Category.BULK))
_DELIVERED, _BOUNCED = map([*EmailStatus].index, (EmailStatus.DELIVERED, EmailStatus.BOUNCED))
_REPLY = '{"reply":{"stage":"dot","code":250,"text":"2.0.0 Ok"},"message_id":"<m@bench.example>"}'
_REFUSAL = (
    '{"reply":{"stage":"rcpt","code":550,"enhanced":"5.1.1","text":"no such user"},'
    '"reply_class":"mailbox_unknown"}'
)


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How many mails are known, and the requests of each kind."""

    mails: int
    requests: HttpPlan


async def measure(
    place: Bench, plan: ReadPlan, databases: Sequence[str]
) -> AsyncIterator[tuple[str, Sequence[Series]]]:
    """Measure each kind of request on each database, and yield them with its name."""
    with domains.server(place) as server:
        for name in databases:
            base = server.account.url() if name == domains.POSTGRESQL else None
            async with domains.database(base) as url:
                yield name, await _measured(place, url, plan)


async def _measured(place: Bench, url: str | None, plan: ReadPlan) -> Sequence[Series]:
    [health_port] = ports.unused(1)
    async with place.vhost() as amqp_url:
        environment = ledger.settings(place, amqp_url, health_port)
        if url:
            environment["DATABASE_URL"] = url
        await fill(url, Path(environment["DATA_DIR"]), plan.mails)
        async with (
            place.running("ledger", ledger.SERVICE, environment) as process,
            accept.running(place, amqp_url) as gateway,
        ):
            await place.listening("ledger", process, health_port)
            return [each async for each in _series(place, gateway, plan)]


async def _series(place: Bench, gateway: Gateway, plan: ReadPlan) -> AsyncIterator[Series]:
    for name, paths in _requests(plan).items():
        task = replace(gateway.ping(plan.requests), headers=gateway.headers, paths=paths)
        seen = [await accept.loaded(place, task) for _ in range(plan.requests.repetitions)]
        yield accept.series(name, seen)


def _requests(plan: ReadPlan) -> dict[str, Sequence[str]]:
    """Return the paths of each kind of request, of mails spread over all of them."""
    chance = random.Random(17)  # noqa: S311 -- which mails, not a secret
    numbers = [chance.randrange(plan.mails) for _ in range(plan.requests.count)]
    return {
        "one mail": [f"/v1/messages/m-{number}" for number in numbers],
        "by recipient": [f"/v1/messages?recipient={_address(number)}" for number in numbers],
        "by status": ["/v1/messages?status=bounced&limit=10" for _ in numbers],
        "by tag": ["/v1/messages?tag=campaign:spring&limit=10" for _ in numbers],
        "the newest": ["/v1/messages?limit=10" for _ in numbers],
        "sums by day": ["/v1/stats?by=day&timezone=Europe/Vienna" for _ in numbers],
    }


async def fill(url: str | None, folder: Path, mails: int) -> None:
    """Record mails and their outcomes in an empty database."""
    now = milliseconds(datetime.now(UTC))
    places = itertools.count()
    async with Database.open("ledger", url, folder, MIGRATIONS) as database:
        for first in range(0, mails, BATCH_SIZE):
            numbers = range(first, min(first + BATCH_SIZE, mails))
            work = partial(_record, numbers=numbers, mails=mails, now=now, places=places)
            await database.write(work)
        await database.write(lambda connection: connection.execute(sa.text("ANALYZE")))


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
    )
    end = chance.random()
    if end > WAITING_SHARE:
        status, detail = (_BOUNCED, _REFUSAL) if end > 1 - BOUNCED_SHARE else (_DELIVERED, _REPLY)
        yield EarlyOutcome(key, RecordedOutcome(recipient, 1, status, status, at + 500, detail))


def _address(number: int) -> str:
    return f"user{number}@domain{number % DOMAINS}.example"
