"""The daily parts of the history on PostgreSQL."""

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.ledger.mails import DAY_MILLISECONDS, milliseconds
from services.ledger.service import MIGRATIONS
from services.ledger.store import partitions
from services.ledger.store.partitions import DAYS_AHEAD
from services.ledger.store.recording import MailStore
from shared.contracts import EmailDeferred
from shared.storage.database import Database
from tests.clock import Clock
from tests.ledger.books import ADA, AT, accepted, outcome
from tests.sender.senders import HASHER

NOW = milliseconds(AT)
TODAY = NOW // DAY_MILLISECONDS

pytestmark = pytest.mark.postgres


async def rows(database: Database) -> dict[str, int]:
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
        await partitions.renew(database, NOW, 0)
        await defer(store, 1, 0)
        await defer(store, 2, 1)
        await defer(store, 3, 20)
        before = await rows(database)
        limit = (TODAY + 1) * DAY_MILLISECONDS
        await partitions.renew(database, NOW, limit)
        await partitions.renew(database, NOW + 2 * DAY_MILLISECONDS, limit)
        after = await rows(database)

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
        await partitions.renew(database, NOW, 0)
        found = await rows(database)

    assert found["history_default"] == 1
    assert f"history_{TODAY}" not in found
    assert f"history_{TODAY + 1}" in found
