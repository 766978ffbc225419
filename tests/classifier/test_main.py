"""The real processes, killed at random moments, on a database that crashes: nothing is lost."""

import asyncio
import os
import random
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
import sqlalchemy as sa

from ops import ports
from ops.postgres import CRASH_SAFE, PostgresAccount, PostgresPrograms, PostgresServer
from services.classifier.evidence import observe
from services.classifier.rule import VerdictRule
from services.classifier.service import MIGRATIONS
from services.classifier.store.reader import DomainReader
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Category,
    DomainClassified,
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    ReplyClass,
    Sighting,
    Verdict,
    decode,
)
from shared.rabbitmq import declare
from shared.storage.database import Database
from tests.classifier.store.test_counting import check, recount
from tests.tap import Tap, depth, publish_in_parts, tapped
from tests.waiting import until

pytestmark = [
    pytest.mark.journey,
    pytest.mark.rabbit,
    pytest.mark.postgres,
    pytest.mark.timeout(300),
]

EVENTS = 10_000
DOMAINS = 60
KILLS = 6
REPLICAS = 2
LADDER_SCALE = 0.01
WITHIN = 120.0  # seconds, on a machine that does much else
RULE = VerdictRule(100)
START = datetime(2020, 1, 1, tzinfo=UTC)

Event = EmailDelivered | EmailBounced | FeedbackReported


@pytest.fixture
def server(run_directory: Path) -> Iterator[PostgresServer]:
    """Start a PostgreSQL that this test may crash."""
    programs = PostgresPrograms.find()
    if programs is None:
        pytest.skip("a server in a container keeps its data in memory and cannot be restarted")
    account = PostgresAccount(ports.unused(1)[0])
    server = PostgresServer(run_directory / "postgres-to-crash", account, programs, CRASH_SAFE)
    server.start()
    yield server
    server.discard()


def drawn(chance: random.Random) -> Sequence[Event]:
    """Draw the events of EVENTS mails, of our own sender and in reports."""
    events: list[Event] = []
    left = EVENTS
    while left:
        size = min(left, chance.choice([0, 0, 1, 5, 40]))
        if size:
            events.append(_report(chance, len(events), size))
        else:
            events.append(_own(chance, len(events)))
        left -= size or 1
    return events


def _domain(chance: random.Random) -> str:
    # The first ones have many events and no bounce, so that some become catch-all.
    return f"d{min(chance.randrange(DOMAINS), chance.randrange(DOMAINS))}.example"


def _kind(chance: random.Random, domain: str) -> Kind:
    clean = int(domain[1:].partition(".")[0]) % 3 == 0
    return Kind.DELIVERED if clean or chance.random() < 0.99 else Kind.BOUNCED


def _report(chance: random.Random, number: int, size: int) -> FeedbackReported:
    sightings = []
    for place in range(size):
        domain = _domain(chance)
        at = START + timedelta(seconds=chance.randrange(100_000))
        kind = _kind(chance, domain)
        sightings.append(Sighting(id=f"s-{number}-{place}", domain=domain, kind=kind, at=at))
    return FeedbackReported(id=f"r-{number}", at=START, sightings=tuple(sightings))


def _own(chance: random.Random, number: int) -> EmailDelivered | EmailBounced:
    domain = _domain(chance)
    fields = {
        "id": f"e-{number}",
        "at": START + timedelta(seconds=chance.randrange(100_000)),
        "email_id": f"m-{number}",
        "category": Category.BULK,
        "recipient": f"user{number}@{domain}",
        "attempt": 1,
    }
    if chance.random() < 0.1:
        return EmailBounced.model_validate({**fields, "reply_class": ReplyClass.POLICY})
    return EmailDelivered.model_validate(fields)


def history(events: Sequence[Event], chance: random.Random) -> Sequence[Event]:
    """Return the events in another order, a third of them twice; some copies in other reports."""
    sent = [*events, *chance.sample(list(events), len(events) // 3)]
    for number in range(50):
        reports = chance.sample(list(events), 20)
        mixed = [
            sighting
            for each in reports
            if isinstance(each, FeedbackReported)
            for sighting in each.sightings[:3]
        ]
        if mixed:
            sent.append(FeedbackReported(id=f"x-{number}", at=START, sightings=tuple(mixed)))
    chance.shuffle(sent)
    return sent


def slices(sent: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Cut a history into a part for each kill."""
    size = -(-len(sent) // KILLS)
    for start in range(0, len(sent), size):
        yield sent[start : start + size]


def counts(sent: Iterable[Event]) -> int:
    """Return the number of deliveries and bounces of a history, each counted once."""
    kinds = {each.key: each.kind for event in sent for each in observe(event)}
    return sum(each in (Kind.DELIVERED, Kind.BOUNCED) for each in kinds.values())


class Replicas:
    """Processes that count, each replaced when it is killed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._running: list[Process] = []

    async def start(self, count: int) -> None:
        """Start so many processes."""
        for _ in range(count):
            self._running.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "services.classifier"),
                    env=self._environment,
                    stdout=DEVNULL,
                    stderr=DEVNULL,
                )
            )

    async def kill(self, number: int) -> None:
        """Kill one with SIGKILL and start another. A process that has ended is replaced as well."""
        process = self._running.pop(number)
        if process.returncode is None:
            process.kill()
        await process.wait()
        await self.start(1)

    async def end(self) -> None:
        """Kill all."""
        for process in self._running:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def running(environment: Mapping[str, str]) -> AsyncIterator[Replicas]:
    """Run two replicas for the length of the block."""
    replicas = Replicas(environment)
    try:
        await replicas.start(REPLICAS)
        yield replicas
    finally:
        await replicas.end()


@pytest.mark.parametrize("seed", [1])
async def test_the_table_equals_a_recount(
    vhost: str, server: PostgresServer, tmp_path: Path, seed: int
) -> None:
    """Ten thousand events, permuted and duplicated, kills and a crash of the database: exact."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=LADDER_SCALE))
    chance = random.Random(seed)  # noqa: S311 -- the same at each run
    events = drawn(chance)
    sent = history(events, chance)
    url = server.account.url()
    environment = {
        "PATH": os.environ["PATH"],
        "AMQP_URL": vhost,
        "DATABASE_URL": url,
        "DATA_DIR": str(tmp_path),
        "CLASSIFIER_THRESHOLD": str(RULE.threshold),
    }
    observations = [each for event in events for each in observe(event)]
    async with (
        Database.open("classifier", url, tmp_path, MIGRATIONS) as database,
        Broker.connect(vhost, "gateway") as broker,
        tapped(vhost, topology.EVENTS, "domain.classified") as tap,
        running(environment) as replicas,
    ):
        counted = 0
        parts = list(slices(sent))
        for turn, part in enumerate(parts):
            await publish_in_parts(broker, part)
            if turn == KILLS // 2:
                await asyncio.to_thread(server.restart)
            # In the middle of this part, as far as it was not counted before.
            so_far = counts(chain.from_iterable(parts[: turn + 1]))
            moment = counted + chance.random() * (so_far - counted)
            await until(partial(_reached, database, moment), WITHIN)
            await replicas.kill(chance.randrange(REPLICAS))
            counted = so_far
        await until(partial(_reached, database, counts(events)), WITHIN)
        await until(partial(_empty, vhost), WITHIN)
        await check(database, observations, RULE)
        assert await _announced_verdicts(tap) == {
            domain: RULE.verdict(record.evidence)
            for domain, record in recount(observations, RULE).items()
            if RULE.verdict(record.evidence) != Verdict.UNKNOWN
        }


async def _reached(database: Database, count: float) -> bool:
    """Return whether so many deliveries and bounces are counted."""
    try:
        totals = await DomainReader(database).totals()
    except (OSError, sa.exc.SQLAlchemyError):  # the crash has cut this connection
        return False
    return totals.delivered + totals.bounced >= count


async def _empty(url: str) -> bool:
    """Return whether all queues and delays are empty; the sums would lack a dead letter."""
    names = [queue.name for queue in topology.queues() if "delay" in queue.name]
    return not any([await depth(url, name) for name in (topology.EVIDENCE, *names)])


async def _announced_verdicts(tap: Tap) -> Mapping[str, Verdict]:
    """Return the last announced verdict on each domain, by the times of the changes."""
    announced: list[DomainClassified] = []
    while not tap.empty():
        message = await tap.next()
        change = decode(message.type or "", message.body)
        assert isinstance(change, DomainClassified)
        announced.append(change)
    return {each.domain: each.status for each in sorted(announced, key=lambda each: each.at)}
