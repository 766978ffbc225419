"""Forgetting in both databases: what is old, and nothing else."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.ledger.mails import DAY_MILLISECONDS, Retention, milliseconds
from services.ledger.service import MIGRATIONS
from services.ledger.store import purging
from services.ledger.store.purging import DAYS_AHEAD, LedgerPurge
from services.ledger.store.recording import MailStore
from services.ledger.store.sql import metadata
from shared.contracts import EmailDeferred
from shared.contracts.fields import Tag
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import has_log
from tests.ledger.books import ADA, AT, BOB, accepted, outcome
from tests.sender.senders import HASHER

KEPT = Retention(message_days=90, history_days=30, total_days=400)
TAGS = (Tag(name="kind", value="news"),)
NOW = milliseconds(AT)
TODAY = NOW // DAY_MILLISECONDS

pytestmark = pytest.mark.postgres


async def rows(database: Database) -> dict[str, int]:
    """Return the number of rows of each table that has any."""

    def count(connection: sa.Connection) -> dict[str, int]:
        counted = sa.func.count()
        return {
            name: connection.execute(sa.select(counted).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }

    found = await database.read(count)
    return {name: number for name, number in found.items() if number}


async def test_what_is_old_is_forgotten_and_nothing_else(
    store: MailStore,
    database: Database,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Mails, earlier outcomes and sums each have a time of their own."""
    monkeypatch.setattr(purging, "PURGE_ROWS", 1)
    clock.seconds = AT.timestamp() + 60
    purge = LedgerPurge(database, KEPT, clock)
    for number in range(3):
        at = AT + timedelta(days=50 * number)
        clock.seconds = at.timestamp() + 60
        await asyncio.gather(
            store.record(
                accepted(
                    f"m-{number}", ADA, BOB, created_at=at, tags=TAGS, message_id=f"<{number}@a.b>"
                )
            ),
            store.record(outcome(EmailDeferred, f"m-{number}", ADA)),
            store.record(outcome(EmailDeferred, f"m-{number}", ADA, 2)),
            store.record(outcome(email_id=f"never-{number}")),
        )
    before = await rows(database)
    await purge.run()

    assert not has_log(tmp_path)
    assert before == {
        "mail_keys": 6,
        "messages": 3,
        "message_tags": 6,
        "message_ids": 6,
        "recipients": 6,
        "history": 3,
        "early_outcomes": 3,
        "totals": 15,
    }
    assert await rows(database) == {
        "mail_keys": 4,
        "messages": 2,
        "message_tags": 4,
        "message_ids": 4,
        "recipients": 4,
        "history": 1,
        "early_outcomes": 2,
        "totals": 15,
    }

    clock.seconds += 401 * 86_400
    await purge.run()
    assert await rows(database) == {}


async def test_a_mail_that_was_forgotten_can_be_recorded_again(
    store: MailStore, database: Database, clock: Clock
) -> None:
    """No key of it is left behind."""
    clock.seconds = AT.timestamp() + 91 * 86_400
    await store.record(accepted())
    await LedgerPurge(database, KEPT, clock).run()
    await store.record(accepted())

    assert (await rows(database))["messages"] == 1


async def part_rows(database: Database) -> dict[str, int]:
    """Return the parts of the history and the number of rows of each."""

    def count(connection: sa.Connection) -> dict[str, int]:
        names = connection.execute(
            sa.text(
                "SELECT relname FROM pg_class JOIN pg_inherits ON oid = inhrelid"
                " WHERE inhparent = CAST('history' AS regclass)"
            )
        ).scalars()
        return {
            name: connection.exec_driver_sql(f"SELECT COUNT(*) FROM {name}").scalar_one()  # noqa: S608 -- a name of ours
            for name in names
        }

    return await database.read(count)


async def defer(store: MailStore, number: int, days: int) -> None:
    """Record a mail of another day with one earlier outcome."""
    mail = f"m-{number}"
    await store.record(accepted(mail, created_at=AT + timedelta(days=days)))
    await store.record(outcome(EmailDeferred, mail, ADA, 1))
    await store.record(outcome(EmailDeferred, mail, ADA, 2))


async def test_a_day_is_forgotten_with_its_part(
    postgres_url: str, tmp_path: Path, clock: Clock
) -> None:
    """Parts are made ahead, take the rows of their day, and are dropped once they are old."""
    clock.seconds = (AT + timedelta(days=30)).timestamp()
    async with Database.open("ledger", postgres_url, tmp_path, MIGRATIONS) as database:
        store = MailStore(database, 0, HASHER, clock)
        await purging.renew_parts(database, NOW, 0)
        await defer(store, 1, 0)
        await defer(store, 2, 1)
        await defer(store, 3, 20)
        before = await part_rows(database)
        limit = (TODAY + 1) * DAY_MILLISECONDS
        await purging.renew_parts(database, NOW, limit)
        await purging.renew_parts(database, NOW + 2 * DAY_MILLISECONDS, limit)
        after = await part_rows(database)

    assert {name: count for name, count in before.items() if count} == {
        f"history_{TODAY}": 1,
        f"history_{TODAY + 1}": 1,
        "history_default": 1,
    }
    assert len(before) == DAYS_AHEAD + 2
    assert f"history_{TODAY}" not in after
    assert after[f"history_{TODAY + 1}"] == 1
    assert f"history_{TODAY + 2 + DAYS_AHEAD}" in after


async def test_a_day_with_rows_and_without_a_part_stays_in_the_default(
    postgres_url: str, tmp_path: Path, clock: Clock
) -> None:
    """A ledger that was away for weeks makes the parts that it can."""
    clock.seconds = AT.timestamp() + 60
    async with Database.open("ledger", postgres_url, tmp_path, MIGRATIONS) as database:
        await defer(MailStore(database, 0, HASHER, clock), 1, 0)
        await purging.renew_parts(database, NOW, 0)
        found = await part_rows(database)

    assert found["history_default"] == 1
    assert f"history_{TODAY}" not in found
    assert f"history_{TODAY + 1}" in found
