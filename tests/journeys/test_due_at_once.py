"""Thousands of subscriptions that are due at once on a running stack, while codes are asked for."""

import asyncio
import logging
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import sqlalchemy as sa

from benchmarks import report, schedule
from benchmarks.arrive import Arrivals, serving
from benchmarks.bench import peak_memory
from benchmarks.report import Series
from benchmarks.schedule import LIST
from ops.stack.settings import SERVICES
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.due import milliseconds
from services.scheduler.store.tables import subscriptions
from shared.storage.database import Database
from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.user import User
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(3600)]

# DUE_MAILS=100000 is issue 13's number.
DUE = int(os.environ.get("DUE_MAILS", "3000"))
LARGE, SMALL = "local", "small"  # clients; the first one is the stack's own
FEW = 3  # subscriptions of the second, due after all of the first
CODES = 30  # asked for before, to compare with
RARELY = "0 0 29 2 *"  # no second period while the test runs
MAX_GROWTH_OCTETS = 80_000_000  # of the scheduler, whatever the number of mails
ALL_SECONDS = 3000.0

logger = logging.getLogger(__name__)


class Relay(Arrivals):
    """A relay that counts the mails of each recipient."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: Counter[str] = Counter()
        self.large_before_small = 0  # mails of the large client before the last of the small one

    def arrived(self, email: bytes) -> None:
        """Count a mail, and record its time."""
        super().arrived(email)
        self.copies[email.decode()] += 1
        if email.startswith(SMALL.encode()):
            self.large_before_small = self.newsletters(LARGE)

    def newsletters(self, client: str) -> int:
        """Return how many subscribers of a client have got a mail."""
        return sum(each.startswith(f"{client}-") for each in self.copies)


class Deployment(NamedTuple):
    """A stack, its relay, and the database of its scheduler."""

    stack: Stack
    relay: Relay
    database: Database


@pytest.fixture
async def relay() -> AsyncIterator[tuple[Relay, int]]:
    """Open a relay; the second value is its port."""
    opened = Relay()
    async with serving(opened) as port:
        yield opened, port


@pytest.fixture
def stack(tmp_path: Path, relay: tuple[Relay, int]) -> Iterator[Stack]:
    """Start a stack that sends to the relay, as fast as it can."""
    environ = {
        **fresh_environ(tmp_path / "run"),
        "SENDER_SMTP_PORT": str(relay[1]),
        "SCHEDULER_RATE": "100000",
        "SCHEDULER_SPREAD_SECONDS": "0",
        # More codes are asked for in the time of 100,000 mails than a client may ask for.
        **{f"OTP_{each}_HOURLY": "1000000" for each in ("CLIENT", "DOMAIN", "TOTAL")},
    }
    with running(tmp_path / "run", environ) as started:
        yield started


@pytest.fixture
async def deployment(stack: Stack, relay: tuple[Relay, int]) -> AsyncIterator[Deployment]:
    """Open the database of the scheduler, with subscriptions that are due in a day."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    data = stack.run_dir / "data"
    async with Database.open("scheduler", None, data, MIGRATIONS) as database:
        await schedule.fill(database, DUE, tomorrow, client=LARGE)
        await schedule.fill(database, FEW, tomorrow, client=SMALL)
        yield Deployment(stack, relay[0], database)


async def make_due(database: Database) -> int:
    """Make all subscriptions due now in one transaction, those of the small client last."""
    now, table = datetime.now(UTC).replace(microsecond=0), subscriptions.c
    period = milliseconds(now - timedelta(minutes=1))
    last = sa.case((table.client == SMALL, milliseconds(now)), else_=period)
    change = sa.update(subscriptions).values(frequency=RARELY, period_at=period, due_at=last)
    return await database.write(lambda c: c.execute(change).rowcount)


async def codes(user: User, relay: Relay, name: str, done: asyncio.Event | None = None) -> Series:
    """Time CODES codes, one after the other, or all until `done`."""

    async def request(email: str) -> None:
        place = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"
        answer = await user.ask("POST", "/v1/otp", {"email": email, "ip": place})
        assert answer.status == 202, answer

    found = [await relay.latency(request)]
    while len(found) < CODES if done is None else not done.is_set():
        found.append(await relay.latency(request))
    return Series(name, [len(found) / sum(found)], found)


def memory(stack: Stack) -> dict[str, int]:
    """Return the octets that each service has in memory."""
    return {name: psutil.Process(stack.pid(name)).memory_info().rss for name in SERVICES}


async def delivered(user: User) -> Sequence[int]:
    """Return how many mails of each run of the large client were published, and delivered."""
    runs = (await user.ask("GET", f"/v1/content-types/{LIST}/runs")).body["runs"]
    found = list[int]()
    for run in runs:
        whole = (await user.ask("GET", f"/v1/content-types/{LIST}/runs/{run['run']}")).body
        found += [run["published"], whole["counts"]["delivered"]]
    return found


async def test_all_are_mailed_once_while_codes_arrive(deployment: Deployment) -> None:
    """Each is mailed once in little memory; codes arrive meanwhile, and a small client's mails too.

    The run counts each mail, the ledger too.
    """
    stack, relay, database = deployment
    done = asyncio.Event()
    async with User.of(stack.record) as user:
        idle = await codes(user, relay, "idle")
        before = memory(stack)
        assert await make_due(database) == DUE + FEW
        asking = asyncio.create_task(codes(user, relay, "meanwhile", done))

        async def have_come() -> bool:
            assert not asking.done(), asking.result()
            return relay.newsletters(LARGE) + relay.newsletters(SMALL) == DUE + FEW

        async def are_counted() -> bool:
            return await delivered(user) == [DUE, DUE]

        await until(have_come, within=ALL_SECONDS)
        done.set()
        busy = await asking
        await until(are_counted, within=ALL_SECONDS)
        highest = {name: peak_memory(stack.pid(name)) for name in SERVICES}
        logger.info("%s", report.table("codes/s", [busy, idle]))
        logger.info("octets in memory before %s, at most %s", before, highest)

    assert set(relay.copies.values()) == {1}
    assert len(relay.copies) == DUE + FEW + len(idle.latencies) + len(busy.latencies)
    assert relay.large_before_small < DUE
    assert highest["scheduler"] - before["scheduler"] < MAX_GROWTH_OCTETS
