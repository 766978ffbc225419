"""Forgetting in both databases: what is old, and nothing else."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.ledger.mails import Retention
from services.ledger.store import purging
from services.ledger.store.purging import LedgerPurge
from services.ledger.store.recording import MailStore
from services.ledger.store.tables import metadata
from shared.contracts import EmailDeferred
from shared.contracts.fields import Tag
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import has_log
from tests.ledger.books import ADA, AT, BOB, accepted, outcome

KEPT = Retention(message_days=90, history_days=30, total_days=400)
TAGS = (Tag(name="kind", value="news"),)


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
            store.record(accepted(f"m-{number}", ADA, BOB, created_at=at, tags=TAGS)),
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
        "recipients": 6,
        "history": 3,
        "early_outcomes": 3,
        "totals": 15,
    }
    assert await rows(database) == {
        "mail_keys": 4,
        "messages": 2,
        "message_tags": 4,
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
