"""kill -9 of schedulers while hundreds of subscriptions and mails for later are due."""

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks import schedule
from ops import ports
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.tables import runs, subscriptions
from shared import topology
from shared.broker import Broker
from shared.contracts import SendEmail
from shared.contracts.content import NewsletterId
from shared.rabbitmq import declare
from shared.storage.database import Database
from tests.processes import started
from tests.scheduler.conftest import LINK_KEY, PUBLIC_URL
from tests.tap import Tap, publish_in_parts, tapped
from tests.waiting import until

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(240)]

DUE = 400
LATER = 100
NEWSLETTER, MAIL = "email.send.bulk", "email.send.transactional"
KILLS = (1, 60, 130, 200, 290)  # mails before each, in turn of the first and the second scheduler
RARELY = "0 0 29 2 *"  # no second period while the test runs

Seen = defaultdict[str, Counter[str]]  # how often each id of a type was published


def environment(vhost: str, folder: Path) -> dict[str, str]:
    """Return the settings of a scheduler."""
    return {
        "AMQP_URL": vhost,
        "DATA_DIR": str(folder),
        "HEALTH_PORT": str(ports.unused(1)[0]),
        "LINK_KEY": LINK_KEY,
        "SCHEDULER_PUBLIC_URL": PUBLIC_URL,
        "SCHEDULER_RATE": "100",
        "SCHEDULER_LEASE_SECONDS": "1",
        "SCHEDULER_SPREAD_SECONDS": "0",
    }


def later(now: datetime, number: int) -> SendEmail:
    """Return a mail for later; they are due one after another while schedulers are killed."""
    at = now + timedelta(seconds=number / 10)
    fields = {"id": f"later-{number}", "to": ["ann@example.org"], "subject": "s", "text": "t"}
    return SendEmail.model_validate({**fields, "scheduled_at": at})


async def collect(tap: Tap, seen: Seen, kind: str, count: int) -> None:
    """Wait until so many mails of a kind were published, of those that were published once."""
    while len(seen[kind]) < count:
        await see(tap, seen)


async def see(tap: Tap, seen: Seen) -> None:
    """Count the next command by its type and id."""
    message = await tap.next()
    seen[message.type or ""][message.message_id or ""] += 1


async def test_killed_schedulers_mail_each_period_once(vhost: str, tmp_path: Path) -> None:
    """Two schedulers, killed again and again, mail each subscription under one id, and count it.

    Meanwhile they publish each mail for later.
    """
    await declare(vhost, topology.EXCHANGES, topology.queues())
    now = datetime.now(UTC)
    first, seen = now - timedelta(minutes=1), Seen(Counter)
    async with (
        Database.open("scheduler", None, tmp_path, MIGRATIONS) as database,
        tapped(vhost, topology.COMMANDS) as tap,
        Broker.connect(vhost, "gateway") as broker,
        AsyncExitStack() as processes,
    ):
        await schedule.fill(database, DUE, first)
        await publish_in_parts(broker, [later(now, number) for number in range(LATER)])
        rarely = sa.update(subscriptions).values(frequency=RARELY)
        await database.write(lambda c: c.execute(rarely).rowcount)

        async def start() -> asyncio.subprocess.Process:
            process = started("-m", "services.scheduler", env=environment(vhost, tmp_path))
            return await processes.enter_async_context(process)

        schedulers = [await start(), await start()]
        for number, count in enumerate(KILLS):
            await collect(tap, seen, NEWSLETTER, count)
            schedulers[number % 2].kill()
            schedulers[number % 2] = await start()
        await collect(tap, seen, NEWSLETTER, DUE)
        await collect(tap, seen, MAIL, LATER)

        async def are_moved() -> bool:
            look = sa.select(sa.func.count()).where(subscriptions.c.token.is_not(None))
            late = sa.select(sa.func.min(subscriptions.c.period_at))
            held = await database.read(lambda c: c.execute(look).scalar_one())
            earliest = await database.read(lambda c: c.execute(late).scalar_one())
            return held == 0 and earliest > first.timestamp() * 1000 + 86_400_000

        await until(are_moved)
        while not tap.empty():
            await see(tap, seen)
        table = subscriptions.c
        known = await database.read(lambda c: set(c.execute(sa.select(table.id)).scalars()))
        counted = sa.select(sa.func.sum(runs.c.published))
        published = await database.read(lambda c: c.execute(counted).scalar_one())

    ids = seen[NEWSLETTER]
    assert seen[MAIL].keys() == {f"later-{number}" for number in range(LATER)}
    found = [NewsletterId.read(each) for each in ids]
    assert len(ids) == published == DUE
    assert {each.subscription for each in found if each} == known
