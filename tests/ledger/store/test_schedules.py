"""The times of mails for later in both databases, in any order of the messages about them."""

import itertools
from datetime import timedelta

from services.ledger.answers import record
from services.ledger.mails import Retention, milliseconds
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.purging import LedgerPurge
from services.ledger.store.reader import MailFilter, MailReader
from services.ledger.store.recording import MailStore
from shared.contracts import EmailDelivered, EmailRecord, ListEmails
from shared.storage.database import Database
from tests.clock import Clock
from tests.ledger.books import ADA, AT, accepted, moved, outcome, overall, read_books
from tests.sender.senders import HASHER

LATER = AT + timedelta(days=3)
SOONER = AT + timedelta(days=1)
SET_AT = AT + timedelta(hours=1)
SCHEDULED = accepted(scheduled_at=LATER)
# As the scheduler publishes it at its time.
RELEASED = accepted(created_at=SOONER, accepted_at=AT)


async def found(database: Database, email_id: str = "m-1") -> EmailRecord:
    """Return a mail as questions are answered."""
    mail = await MailReader(database).find(email_id, "shop")
    assert mail is not None
    return record(mail)


async def test_the_order_of_messages_changes_nothing(store: MailStore, database: Database) -> None:
    """The latest change of the time counts, and both commands are one mail of its acceptance."""
    orders = [*itertools.permutations(range(5))]
    for number, order in enumerate(orders):
        ids = f"m-{number}"
        mine = (
            accepted(ids, scheduled_at=LATER),
            moved(LATER + timedelta(days=1), SET_AT, ids),
            moved(SOONER, SET_AT + timedelta(seconds=1), ids),
            accepted(ids, created_at=SOONER, accepted_at=AT),
            outcome(EmailDelivered, ids),
        )
        if number % 2:
            await store.record_all([mine[place] for place in order])
        else:
            for place in order:
                await store.record(mine[place])

    mails = [await found(database, f"m-{number}") for number in range(len(orders))]
    assert {(each.accepted_at, each.scheduled_at) for each in mails} == {(AT, SOONER)}
    assert overall(await read_books(database)) == {"delivered": len(orders)}


async def test_a_mail_for_later_waits_from_its_acceptance(
    store: MailStore, database: Database
) -> None:
    """Lists and sums have it while the scheduler has it, once; others have no time."""
    await store.record_all([SCHEDULED, accepted("m-2")])
    page = await MailReader(database).page(MailFilter.of(ListEmails(id="q")), 10)

    assert {each.message.email_id: record(each).scheduled_at for each in page.mails} == {
        "m-1": LATER,
        "m-2": None,
    }
    assert overall(await read_books(database)) == {"waiting": 2}
    await store.record(RELEASED)
    assert overall(await read_books(database)) == {"waiting": 2}


async def test_a_repeated_command_keeps_the_newer_time(
    store: MailStore, database: Database
) -> None:
    """The gateway publishes a repeat with the time of the first request."""
    await store.record_all([SCHEDULED])
    await store.record_all([moved(SOONER, SET_AT)])
    await store.record_all([SCHEDULED])

    assert (await found(database)).scheduled_at == SOONER


async def test_a_forgotten_mail_stays_forgotten_at_its_time(
    store: MailStore, database: Database, clock: Clock
) -> None:
    """The command that the scheduler publishes later brings nobody back."""
    clock.seconds = AT.timestamp()
    await store.record_all([SCHEDULED])
    clock.seconds += 60
    await AddressForgetter(database, HASHER, clock).forget(ADA)
    await store.record_all([RELEASED, moved(SOONER, SET_AT)])

    assert (await read_books(database)).mails == []


async def test_the_time_of_a_mail_that_never_comes_is_purged(
    store: MailStore, database: Database, clock: Clock
) -> None:
    """No mail is there by which it would be purged."""
    await store.record_all([moved(SOONER, SET_AT)])
    clock.seconds += 91 * 86_400
    await LedgerPurge(database, Retention(90, 90, 90), clock).run()
    await store.record_all([accepted(created_at=AT)])

    assert milliseconds(AT) < clock.seconds * 1000
    assert (await found(database)).scheduled_at is None
