"""Recording mails in both databases: once, in any order, by several replicas."""

import asyncio
import itertools
import random
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ledger import answers
from services.ledger.mails import EarlyOutcome, milliseconds
from services.ledger.service import MIGRATIONS
from services.ledger.store.forgetting import ForgottenAddresses
from services.ledger.store.reader import MailReader
from services.ledger.store.recording import MailRecord, MailStore, RecordingTransaction
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailDescribed,
    EmailExpired,
    EmailUncertain,
    ReplyClass,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportKind,
    decode,
    encode,
)
from shared.contracts.fields import Tag
from shared.errors import Reject
from shared.storage.database import Database
from tests.clock import Clock
from tests.ledger.books import (
    ADA,
    AT,
    BOB,
    Books,
    accepted,
    late,
    outcome,
    overall,
    read_books,
    read_from,
    statuses,
)
from tests.sender.senders import HASHER


async def recorded(store: MailStore, *records: MailRecord) -> None:
    """Record all at once, so that they are one batch."""
    await asyncio.gather(*map(store.record, records))


async def test_a_mail_is_kept_with_its_labels_and_without_its_content(
    store: MailStore, database: Database
) -> None:
    """A mail has its facts, each recipient a row, each slice a sum."""
    tags = (Tag(name="campaign", value="spring"),)
    await recorded(
        store,
        accepted("m-1", f"Ada <{ADA}>", BOB, tags=tags, metadata={"order": "7"}, list_id=None),
    )

    books = await read_books(database)
    assert books.mails == [
        (
            *("m-1", "shop", 1, None, "Hello", None),
            *('{"campaign":"spring"}', '{"order":"7"}', 1234, None),
        )
    ]
    assert statuses(books) == {("m-1", ADA): "waiting", ("m-1", BOB): "waiting"}
    hour = int(AT.timestamp()) // 3600
    assert books.totals == {
        ("shop", "", "", hour, 1): {"waiting": 2},
        ("shop", "domain", "one.example", hour, 1): {"waiting": 1},
        ("shop", "domain", "two.example", hour, 1): {"waiting": 1},
        ("shop", "tag", "campaign", hour, 1): {"waiting": 2},
        ("shop", "tag", "campaign:spring", hour, 1): {"waiting": 2},
    }


async def test_the_subject_of_a_mail_with_a_code_is_not_kept(
    store: MailStore, database: Database
) -> None:
    """A client may put the code into the subject."""
    await recorded(store, accepted(category=Category.OTP, subject="Your code is 123456"))

    books = await read_books(database)
    assert books.mails[0][4] is None
    assert "123456" not in str(books)


async def test_an_outcome_moves_its_recipient_from_sum_to_sum(
    store: MailStore, database: Database
) -> None:
    """Accepted is the sum of all others at every moment."""
    await recorded(store, accepted("m-1", ADA, BOB))
    await recorded(store, outcome(EmailDeferred))
    assert overall(await read_books(database)) == {"waiting": 2}

    await recorded(store, outcome(EmailDelivered, attempt=2), outcome(EmailBounced, recipient=BOB))
    books = await read_books(database)
    assert overall(books) == {"delivered": 1, "bounced_permanent": 1}
    assert statuses(books) == {("m-1", ADA): "delivered", ("m-1", BOB): "bounced"}
    assert [row[:2] for row in books.recipients[0][2:]] == [(2, 2), (1, 1)]


async def test_an_outcome_may_come_before_its_command(store: MailStore, database: Database) -> None:
    """It waits for the command, and counts as soon as that comes."""
    await recorded(store, outcome(EmailDeferred))
    await recorded(store, outcome(EmailDelivered, attempt=2))
    before = await read_books(database)
    await recorded(store, accepted())

    after = await read_books(database)
    assert (before.mails, before.totals, before.early) == ([], {}, 2)
    assert (overall(after), after.early) == ({"delivered": 1}, 0)
    assert statuses(after) == {("m-1", ADA): "delivered"}


async def test_the_same_id_of_another_client_is_another_mail(
    store: MailStore, database: Database
) -> None:
    """No client changes another's mail, nor a mail without a client."""
    await recorded(store, *(accepted(client=client) for client in ("shop", "bank", None)))
    await recorded(store, outcome(client="bank"))

    books = await read_books(database)
    assert {key[0]: counts for key, counts in books.totals.items() if not key[1]} == {
        "": {"waiting": 1},
        "bank": {"delivered": 1},
        "shop": {"waiting": 1},
    }


async def test_a_second_command_of_one_id_only_adds_recipients(
    store: MailStore, database: Database
) -> None:
    """Two commands with one id are one mail, sent to the recipients of both."""
    await recorded(store, accepted("m-1", ADA), accepted("m-1", ADA, subject="Again"))
    await recorded(store, outcome())
    await recorded(store, accepted("m-1", ADA, BOB, subject="Once more"))

    books = await read_books(database)
    assert [row[4] for row in books.mails] == ["Hello"]
    assert overall(books) == {"delivered": 1, "waiting": 1}


async def test_a_mail_of_a_wrong_clock_was_accepted_now(
    store: MailStore, database: Database, clock: Clock
) -> None:
    """A time of acceptance that is to come, or absent, is the time of recording."""
    ahead = AT.replace(year=9000)
    await recorded(store, accepted("m-1", created_at=ahead), accepted("m-2", created_at=None))

    books = await read_books(database)
    assert {key[3] for key in books.totals} == {int(clock.seconds) // 3600}


async def test_a_value_that_no_database_holds_harms_no_other_record(store: MailStore) -> None:
    """One bad record is rejected alone."""
    bad = outcome(email_id="m-2")
    bad = EarlyOutcome(bad.key, bad.outcome._replace(at=2**70))

    done = await asyncio.gather(store.record(accepted()), store.record(bad), return_exceptions=True)

    assert done[0] is None
    assert isinstance(done[1], Reject)


async def test_replicas_that_record_one_mail_at_once_agree(
    store: MailStore, replica: MailStore, database: Database
) -> None:
    """Each record that comes by each replica, in any order, counts once."""
    records: list[MailRecord] = []
    for number in range(40):
        records += [
            accepted(f"m-{number}", ADA, BOB),
            outcome(EmailDeferred, f"m-{number}", ADA),
            outcome(EmailDelivered, f"m-{number}", ADA, 2),
            outcome(EmailBounced, f"m-{number}", BOB),
        ]
    chance = random.Random(7)  # noqa: S311 -- repeatable
    work = []
    for each in (store, replica):
        mixed = chance.sample(records, len(records))
        work += [recorded(each, *mixed[start : start + 25]) for start in range(0, len(mixed), 25)]
    await asyncio.gather(*work)

    books = await read_books(database)
    assert overall(books) == {"delivered": 40, "bounced_permanent": 40}
    assert books.early == 0
    assert len(books.mails) == 40


NOW = AT.replace(hour=20)
_EVENTS: Sequence[MailRecord] = (
    accepted("m-1", ADA, BOB),
    accepted("m-2", ADA, tags=(Tag(name="kind", value="news"),)),
    outcome(EmailDeferred, "m-1", ADA, 1),
    outcome(EmailDeferred, "m-1", ADA, 2),
    outcome(EmailUncertain, "m-1", ADA, 2, at=AT.replace(minute=50), retry_after=9),
    outcome(EmailDelivered, "m-1", ADA, 3),
    outcome(EmailBounced, "m-1", ADA, 3, at=AT.replace(minute=59)),
    outcome(EmailDeferred, "m-1", BOB, 1),
    outcome(EmailDeferred, "m-1", BOB, 1, at=AT.replace(minute=31)),
    outcome(EmailDeferred, "m-1", BOB, 2),
    outcome(EmailUncertain, "m-2", ADA, 1),
    outcome(EmailExpired, "m-2", ADA, 1, at=AT.replace(minute=45)),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a file with the tables, to be copied: to make it takes longer than all else."""
    folder = tmp_path_factory.mktemp("template")

    async def make() -> None:
        async with Database.open("ledger", None, folder, MIGRATIONS):
            pass

    asyncio.run(make())
    return folder / "ledger.sqlite"


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.sampled_from(range(len(_EVENTS)))).flatmap(
        lambda chosen: st.tuples(
            st.just(sorted(chosen)),
            st.permutations([*chosen, *chosen]),
            st.integers(1, 6),
        )
    )
)
def test_the_books_follow_from_the_set_of_records(
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    plan: tuple[list[int], list[int], int],
) -> None:
    """Order, copies and the split into batches change nothing."""
    chosen, mixed, size = plan
    folder = tmp_path_factory.mktemp("books")

    assert _books(template, folder / "b", mixed, size) == _books(template, folder / "a", chosen, 1)


def _books(template: Path, file: Path, chosen: Sequence[int], size: int) -> Books:
    shutil.copy(template, file)
    engine = sa.create_engine(f"sqlite:///{file}")
    places = itertools.count()
    with engine.begin() as connection:
        for start in range(0, len(chosen), size):
            some = [_EVENTS[each] for each in chosen[start : start + size]]
            forgotten = ForgottenAddresses.read(connection, HASHER)
            RecordingTransaction(connection, milliseconds(NOW), places, forgotten).record(some)
        books = read_from(connection)
    engine.dispose()
    return books


async def test_a_delivered_mail_bounces_later(store: MailStore, database: Database) -> None:
    """Its state is the report's, its history shows both, and it is counted once, as bounced."""
    deferred = outcome(EmailDeferred, attempt=1)
    await recorded(store, accepted(), deferred, outcome(attempt=2))
    await store.record(late(ReportBounced))
    await store.record(late(ReportBounced))

    mail = await MailReader(database).find("m-1", "shop")
    assert mail is not None
    [state], history = answers.record(mail).recipients, answers.history(mail)
    assert (state.status, state.attempts) == ("bounced", 2)
    assert state.reply_class is ReplyClass.MAILBOX_UNKNOWN
    assert [(each.status, each.attempt, each.report, each.reporter) for each in history] == [
        ("deferred", 1, None, None),
        ("delivered", 2, None, None),
        ("bounced", 2, ReportKind.BOUNCED, "mx.one.example"),
    ]
    assert overall(await read_books(database)) == {"bounced_permanent": 1}
    described = EmailDescribed(id="q", email=answers.record(mail), history=tuple(history))
    assert decode("email.described", encode(described)) == described


@pytest.mark.parametrize("kind", [ReportDelayed, ReportDelivered, ReportComplained])
async def test_other_reports_change_no_state(
    store: MailStore, database: Database, kind: type[ReportDelayed]
) -> None:
    """A delay, a delivery and a complaint are in the history alone, once."""
    await recorded(store, accepted(), outcome(EmailUncertain), late(kind))
    await store.record(late(kind))

    mail = await MailReader(database).find("m-1", "shop")
    assert mail is not None
    assert [each.status for each in answers.record(mail).recipients] == ["uncertain"]
    assert [each.report for each in answers.history(mail)] == [None, kind.keys[0].split(".")[1]]
    assert overall(await read_books(database)) == {"uncertain": 1}


REPORTED = (
    accepted(),
    outcome(EmailDeferred, attempt=1),
    outcome(attempt=2),
    late(ReportBounced),
    late(ReportBounced, reply_class=ReplyClass.POLICY, at=AT + timedelta(hours=2)),
    late(ReportComplained, at=AT + timedelta(hours=3)),
)


@pytest.mark.parametrize("order", [*itertools.permutations(range(len(REPORTED)))][::179])
async def test_reports_come_in_any_order(
    store: MailStore, replica: MailStore, database: Database, order: Sequence[int]
) -> None:
    """The books follow from the set of outcomes and reports; the first bounce by time counts."""
    for number, place in enumerate(order):
        await (store, replica)[number % 2].record(REPORTED[place])

    found = await read_books(database)
    assert statuses(found) == {("m-1", ADA): "bounced"}
    assert overall(found) == {"bounced_permanent": 1}
    mail = await MailReader(database).find("m-1", "shop")
    assert mail is not None
    assert [(each.status, each.attempt, each.report) for each in answers.history(mail)] == [
        ("deferred", 1, None),
        ("delivered", 2, None),
        ("bounced", 2, ReportKind.BOUNCED),
        ("delivered", 2, ReportKind.COMPLAINED),
    ]
