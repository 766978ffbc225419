"""The real processes, killed at random moments: nothing is lost, nothing is counted twice."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from services.ledger.service import MIGRATIONS
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Contract,
    EmailBounced,
    EmailCancelled,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailUncertain,
    Outcome,
    ReplyClass,
    SendEmail,
)
from shared.rabbitmq import declare
from shared.storage.database import Database
from tests.ledger.books import event, overall, read_books, statuses
from tests.processes import started
from tests.sender.senders import SUPPRESSION_KEY
from tests.tap import depth, publish_in_parts
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.rabbit, pytest.mark.timeout(300)]

MAILS = 800
KILLS = 5
WITHIN = 120.0  # seconds, on a machine that does much else
ENDS: Sequence[type[Outcome]] = (
    *(EmailDelivered,) * 5,
    *(EmailBounced, EmailExpired, EmailUncertain, EmailCancelled, EmailDeferred),
)


def drawn(
    chance: random.Random,
) -> tuple[Sequence[Contract], Mapping[tuple[str, str], str]]:
    """Draw the commands and outcomes of MAILS mails, and the status that each recipient ends in."""
    messages: list[Contract] = []
    ends: dict[tuple[str, str], str] = {}
    for number in range(MAILS):
        email_id, to = f"m-{number}", [f"user{place}@d{number % 9}.example" for place in range(3)]
        to = to[: chance.randrange(1, 4)]
        messages.append(SendEmail(id=email_id, client="shop", to=tuple(to), subject="s", text="t"))
        for recipient in to:
            attempts = chance.randrange(4)
            messages += (
                event(EmailDeferred, email_id, recipient, attempt + 1)
                for attempt in range(attempts)
            )
            end = chance.choice(ENDS)
            more = {"reply_class": ReplyClass.MAILBOX_FULL} if end is EmailBounced else {}
            messages.append(event(end, email_id, recipient, attempts + 1, **more))
            ends[email_id, recipient] = end.keys[0].removeprefix("email.")
    return messages, ends


@asynccontextmanager
async def running(environment: Mapping[str, str], count: int) -> AsyncIterator["Ledgers"]:
    """Run so many processes."""
    async with AsyncExitStack() as opened:
        ledgers = Ledgers(environment, opened)
        for _ in range(count):
            await ledgers.start()
        yield ledgers


class Ledgers:
    """Processes that record, each replaced when it is killed."""

    def __init__(self, environment: Mapping[str, str], opened: AsyncExitStack) -> None:
        self._environment = environment
        self._opened = opened
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start one more."""
        process = await self._opened.enter_async_context(
            started("-m", "services.ledger", env=self._environment)
        )
        self._running.append(process)

    async def kill(self) -> None:
        """Kill the oldest one with SIGKILL, and start another."""
        process = self._running.pop(0)
        assert process.returncode is None
        process.kill()
        await process.wait()
        await self.start()


async def test_the_books_equal_a_recount(
    vhost: str, database_url: str | None, tmp_path: Path
) -> None:
    """Mails and outcomes, permuted and duplicated, with kills all along: exact books."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    chance = random.Random(1)  # noqa: S311 -- the same at each run
    messages, ends = drawn(chance)
    sent = [*messages, *chance.sample(messages, len(messages) // 3)]
    chance.shuffle(sent)
    environment = {
        "PATH": os.environ["PATH"],
        "AMQP_URL": vhost,
        "DATA_DIR": str(tmp_path),
        "LOG_LEVEL": "ERROR",
        "SUPPRESSION_KEY": SUPPRESSION_KEY,
        **({"DATABASE_URL": database_url} if database_url else {}),
    }
    size = len(sent) // KILLS + 1
    async with (
        Database.open("ledger", database_url, tmp_path, MIGRATIONS) as database,
        Broker.connect(vhost, "test") as broker,
        running(environment, 2 if database_url else 1) as ledgers,
    ):
        for start in range(0, len(sent), size):
            part = sent[start : start + size]
            await publish_in_parts(broker, part)
            # In the middle of this part.
            await until(partial(_is_left, vhost, chance.randrange(len(part))), WITHIN)
            await ledgers.kill()
        await until(partial(_is_done, vhost, database, len(ends)), WITHIN)
        books = await read_books(database)

    assert statuses(books) == ends
    assert books.early == 0
    assert overall(books) == _sums(ends)
    assert len(books.mails) == MAILS


def _sums(ends: Mapping[tuple[str, str], str]) -> Mapping[str, int]:
    names = {"deferred": "waiting", "bounced": "bounced_transient"}
    return Counter(names.get(end, end) for end in ends.values())


async def _is_left(url: str, count: int) -> bool:
    """Return whether no more than so many messages wait."""
    return await depth(url, topology.LEDGER_MAIL) <= count


async def _is_done(url: str, database: Database, recipients: int) -> bool:
    """Return whether all is recorded: no message waits, and each recipient has an outcome."""
    names = [queue.name for queue in topology.queues() if "delay" in queue.name]
    if any([await depth(url, name) for name in (topology.LEDGER_MAIL, *names)]):
        return False
    found = statuses(await read_books(database))
    return len(found) == recipients and "waiting" not in found.values()
