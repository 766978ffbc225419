"""Forgetting a person in both databases: nothing is left, and nothing late comes back."""

import asyncio
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.ledger.mails import DAY_MILLISECONDS, Retention
from services.ledger.service import MIGRATIONS
from services.ledger.store.forgetting import AddressForgetter, ForgottenAddresses
from services.ledger.store.purging import LedgerPurge
from services.ledger.store.recording import MailStore, RecordingTransaction
from services.ledger.store.sql import forgotten, mail_keys, metadata
from shared.contracts import EmailBounced, EmailDeferred
from shared.contracts.fields import Tag
from shared.return_path import mail_key
from shared.storage import dialect
from shared.storage.database import Database
from tests.clock import Clock
from tests.ledger.books import ADA, AT, BOB, accepted, outcome, read_books, statuses
from tests.sender.senders import HASHER
from tests.waiting import until

LOUD = "Ada@one.example"
LATER = AT + timedelta(days=2)


@pytest.fixture(autouse=True)
def now(clock: Clock) -> None:
    """Set the clock to a day after the mails."""
    clock.seconds = (AT + timedelta(days=1)).timestamp()


async def texts(database: Database) -> str:
    """Return all values of all tables."""
    return await database.read(
        lambda connection: "\n".join(
            str(connection.execute(sa.select(table)).all()) for table in metadata.sorted_tables
        )
    )


async def test_nothing_is_left(
    store: MailStore, forgetter: AddressForgetter, database: Database
) -> None:
    """Mails to a person alone are deleted with subject, tags, metadata and outcomes."""
    for number, to in enumerate((ADA, LOUD)):
        name = f"m-{number}"
        more = {"subject": "Dear Ada", "tags": (Tag(name="person", value="ada"),)}
        await store.record(accepted(name, to, metadata={"name": "ada"}, **more))
        await store.record(outcome(EmailDeferred, name, to))
        await store.record(outcome(EmailBounced, name, to, 2))
    await store.record(outcome(email_id="early", recipient=LOUD))

    assert await forgetter.forget(ADA) == 2

    books = await read_books(database)
    assert (books.mails, books.recipients, books.early) == ([], [], 0)
    left = await texts(database)
    assert ADA not in left
    assert LOUD not in left
    assert "Dear Ada" not in left


async def test_nothing_is_left_in_files(tmp_path: Path, clock: Clock) -> None:
    """The bytes of the database and of its log have nothing of a person who was forgotten."""
    async with Database.open("ledger", None, tmp_path, MIGRATIONS) as database:
        store = MailStore(database, 0, HASHER, clock)
        for number in range(50):
            await store.record(accepted(f"m-{number}", ADA, metadata={"name": "ada lovelace"}))
            await store.record(outcome(EmailDeferred, f"m-{number}", ADA))
            await store.record(outcome(email_id=f"m-{number}", recipient=ADA, attempt=2))
            await store.record(accepted(f"n-{number}", BOB))

        def matches() -> int:
            content = [path.read_bytes() for path in tmp_path.iterdir()]
            return sum(each.count(b"ada@one") + each.count(b"ada lovelace") for each in content)

        before = matches()
        await AddressForgetter(database, HASHER, clock).forget(ADA)

        assert before > 0
        assert matches() == 0


async def test_the_others_stay(
    store: MailStore, forgetter: AddressForgetter, database: Database
) -> None:
    """Of a mail with other recipients only the person is deleted; other mails stay."""
    await store.record(accepted("m-1", ADA, BOB))
    await store.record(accepted("m-2", BOB))
    await store.record(outcome(email_id="m-1", recipient=BOB))
    await forgetter.forget(ADA)

    books = await read_books(database)
    assert statuses(books) == {("m-1", BOB): "delivered", ("m-2", BOB): "waiting"}
    assert len(books.mails) == 2


async def test_late_outcomes(
    store: MailStore, forgetter: AddressForgetter, database: Database
) -> None:
    """Late outcomes and copies of commands of mails from before bring nobody back."""
    await store.record(accepted("m-1", ADA, BOB))
    await store.record(accepted("m-2", ADA))
    await forgetter.forget(ADA)
    before = await read_books(database)
    for name in ("m-1", "m-2", "m-3"):
        await store.record(outcome(email_id=name, at=LATER))
    await store.record(accepted("m-1", ADA, BOB))
    await store.record(accepted("m-2", ADA))
    await store.record(accepted("m-3", ADA))  # it had not come before

    assert await read_books(database) == before


@pytest.mark.postgres
async def test_a_record_under_way(postgres_url: str, tmp_path: Path, clock: Clock) -> None:
    """A transaction that has begun to record a person when it is forgotten leaves nothing of it."""
    read, go_on = asyncio.Event(), asyncio.Event()

    def record(connection: sa.Connection) -> None:
        people = ForgottenAddresses.read(connection, HASHER)
        read.set()
        sa.util.await_only(go_on.wait())
        now = dialect.read_now(connection, clock)
        RecordingTransaction(connection, now, count(), people).record([accepted()])

    async with Database.open("ledger", postgres_url, tmp_path, MIGRATIONS) as database:
        recording = asyncio.create_task(database.write(record))
        await read.wait()
        forgetting = asyncio.create_task(AddressForgetter(database, HASHER, clock).forget(ADA))
        await until(partial(has_waiting_lock, database))
        go_on.set()
        await asyncio.gather(recording, forgetting)
        books = await read_books(database)

    assert (books.mails, books.recipients) == ([], [])


async def has_waiting_lock(database: Database) -> bool:
    """Return whether a transaction waits for an advisory lock."""
    look = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return await database.read(lambda c: c.exec_driver_sql(look).first()) is not None


async def test_a_person_who_comes_back(
    store: MailStore, forgetter: AddressForgetter, database: Database, clock: Clock
) -> None:
    """A mail that is accepted after the forgetting is recorded like any other."""
    await store.record(accepted("m-1", ADA))
    await forgetter.forget(ADA)
    clock.seconds = LATER.timestamp()
    await store.record(accepted("m-2", ADA, created_at=LATER))
    await store.record(outcome(email_id="m-2", at=LATER))

    assert statuses(await read_books(database)) == {("m-2", ADA): "delivered"}


async def test_sums(store: MailStore, forgetter: AddressForgetter, database: Database) -> None:
    """Sums of ended mails stay, and how many of them were forgotten; others are counted no more."""
    await store.record(accepted("m-1", ADA))
    await store.record(outcome(email_id="m-1"))
    await store.record(accepted("m-2", ADA))
    await store.record(accepted("m-3", ADA))
    await store.record(outcome(EmailDeferred, "m-3"))
    await forgetter.forget(ADA)
    await store.record(outcome(email_id="m-3", attempt=2))

    totals = (await read_books(database)).totals
    assert {tuple(counts.items()) for counts in totals.values()} == {(("delivered", 1),)}
    assert sorted(dimension for _, dimension, *_ in totals) == ["", "domain", "forgotten"]


async def test_purge(forgetter: AddressForgetter, database: Database, clock: Clock) -> None:
    """The hash of a forgotten address is deleted when no mail from before is left."""
    await forgetter.forget(ADA)
    clock.seconds += 90 * DAY_MILLISECONDS / 1000 + 1
    await forgetter.purge(90)

    rows = sa.select(sa.func.count()).select_from(forgotten)
    assert await database.read(lambda connection: connection.scalar(rows)) == 0


async def test_purge_of_keys(
    store: MailStore, forgetter: AddressForgetter, database: Database, clock: Clock
) -> None:
    """The keys of forgotten mails are deleted with the mails of that day, and no others."""
    await store.record(accepted("m-1", ADA))
    await store.record(outcome(email_id="m-2"))  # early
    await store.record(outcome(email_id="m-3"))
    await forgetter.forget(ADA)
    await store.record(accepted("m-4", ADA))  # it had not come before
    purge = LedgerPurge(database, Retention(90, 90, 90), clock)
    keys = sa.select(sa.func.count()).select_from(mail_keys)
    await purge.run()
    before = await database.read(lambda connection: connection.scalar(keys))
    clock.seconds += 90 * DAY_MILLISECONDS / 1000 + 1
    await store.record(accepted("m-3", BOB, created_at=LATER + timedelta(days=89)))
    await purge.run()
    left = await database.read(lambda connection: connection.execute(sa.select(mail_keys)).all())

    assert before == 4
    assert [row.key for row in left] == [mail_key("m-3", "shop")]
    assert statuses(await read_books(database)) == {("m-3", BOB): "waiting"}
