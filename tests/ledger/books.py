"""Commands and outcomes of mails, and all that the ledger's database has about them."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from services.ledger.changes import COUNTS
from services.ledger.mails import (
    STATUSES,
    Acceptance,
    EarlyOutcome,
    Rescheduling,
    acceptance,
    early_outcome,
    reported,
    rescheduling,
)
from shared.contracts import (
    AcceptedEmail,
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailRescheduled,
    MailReference,
    Outcome,
    Reply,
    ReplyClass,
    Report,
    ReportBounced,
    ReportSource,
    Stage,
)
from shared.storage.database import Database

AT = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
R = TypeVar("R", bound=Report)
ADA, BOB = "ada@one.example", "bob@two.example"


def command(email_id: str = "m-1", *to: str, **more: object) -> AcceptedEmail:
    """Return the ledger's copy of a command."""
    values: dict[str, Any] = {
        "client": "shop",
        "subject": "Hello",
        "created_at": AT,
        "size_bytes": 1234,
    } | more
    return AcceptedEmail(id=email_id, to=to or (ADA,), **values)


def accepted(email_id: str = "m-1", *to: str, **more: object) -> Acceptance:
    """Return the record of a command."""
    return acceptance(command(email_id, *to, **more))


def event(
    kind: type[Outcome] = EmailDelivered,
    email_id: str = "m-1",
    recipient: str = ADA,
    attempt: int = 1,
    **more: object,
) -> Outcome:
    """Return an outcome."""
    if kind is EmailBounced:
        more.setdefault("reply_class", ReplyClass.MAILBOX_UNKNOWN)
    if kind is EmailDeferred:
        more.setdefault("retry_after", 5)
    values: dict[str, Any] = {
        "client": "shop",
        "category": Category.TRANSACTIONAL,
        "at": AT + timedelta(seconds=attempt),
        "reply": Reply(stage=Stage.DOT, code=250, text="2.0.0 Ok"),
        "message_id": f"<{email_id}@shop.example>",
    }
    return kind(
        id=f"e-{email_id}-{attempt}",
        email_id=email_id,
        recipient=recipient,
        attempt=attempt,
        **values | more,
    )


def outcome(
    kind: type[Outcome] = EmailDelivered,
    email_id: str = "m-1",
    recipient: str = ADA,
    attempt: int = 1,
    **more: object,
) -> EarlyOutcome:
    """Return the record of an outcome."""
    return early_outcome(event(kind, email_id, recipient, attempt, **more))


def report(kind: type[R], email_id: str = "m-1", recipient: str = ADA, **more: object) -> R:
    """Return a report, by default an hour after the mail was accepted."""
    if kind is ReportBounced:
        more.setdefault("reply_class", ReplyClass.MAILBOX_UNKNOWN)
    values: dict[str, Any] = {
        "at": AT + timedelta(hours=1),
        "source": ReportSource.DSN,
        "reporter": "mx.one.example",
    }
    mail = MailReference(
        email_id=email_id,
        client="shop",
        category=Category.TRANSACTIONAL,
        recipient=recipient,
        message_id=f"<{email_id}@shop.example>",
    )
    return kind.about(mail, **values | more)


def late(
    kind: type[Report] = ReportBounced, email_id: str = "m-1", recipient: str = ADA, **more: object
) -> EarlyOutcome:
    """Return the record of a report."""
    return reported(report(kind, email_id, recipient, **more))


def moved(to: datetime, set_at: datetime, email_id: str = "m-1") -> Rescheduling:
    """Return the record of another time of a mail for later."""
    return rescheduling(
        EmailRescheduled(
            id=f"r-{email_id}", at=set_at, email_id=email_id, client="shop", scheduled_at=to
        )
    )


class Books(NamedTuple):
    """The content of the ledger's database that does not depend on the order of its making."""

    mails: list[tuple[Any, ...]]
    recipients: list[tuple[Any, ...]]  # with the outcomes of each, the one that counts first
    totals: dict[tuple[Any, ...], dict[str, int]]
    early: int


async def read_books(database: Database) -> Books:
    """Return all that the database has."""
    return await database.read(read_from)


def read_from(connection: sa.Connection) -> Books:
    """Return all that a connection's database has."""
    mails = connection.execute(
        sa.text(
            "SELECT email_id, client, category, sender, subject, list_id, tags, metadata,"
            " size_bytes, expires_at FROM messages ORDER BY client, email_id"
        )
    )
    present = connection.execute(
        sa.text(
            "SELECT email_id, messages.client, recipient, attempt, outcome, status, at, detail"
            " FROM recipients"
            " JOIN messages ON number = message ORDER BY messages.client, email_id, recipient"
        )
    )
    earlier = connection.execute(
        sa.text(
            "SELECT email_id, messages.client, recipient, attempt, outcome, status, at, detail"
            " FROM history JOIN messages ON number = message"
            " ORDER BY email_id, recipient, attempt, outcome"
        )
    )
    others: dict[tuple[str, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for email_id, client, recipient, *rest in earlier:
        others[email_id, client, recipient].append(tuple(rest))
    recipients = []
    for email_id, client, recipient, *first in present:
        # A copy of the outcome that counts may be older than it.
        known = others[email_id, client, recipient]
        rest = [each for each in known if each[:2] != tuple(first[:2])]
        recipients.append((email_id, recipient, tuple(first), *rest))
    totals = connection.execute(sa.text("SELECT * FROM totals"))
    sums = {
        tuple(row[:5]): {name: count for name, count in zip(COUNTS, row[5:], strict=True) if count}
        for row in totals
    }
    early = connection.execute(sa.text("SELECT COUNT(*) FROM early_outcomes")).scalar_one()
    return Books(
        [tuple(each) for each in mails],
        recipients,
        {key: counts for key, counts in sums.items() if counts},
        early,
    )


def statuses(books: Books) -> dict[tuple[str, str], str]:
    """Return the status of each recipient, by id and address."""
    return {(row[0], row[1]): STATUSES[row[2][2]].value for row in books.recipients}


def overall(books: Books) -> dict[str, int]:
    """Return the sums over all mails."""
    found: Counter[str] = Counter()
    for (_, dimension, *_), counts in books.totals.items():
        if not dimension:
            found.update(counts)
    return dict(found)
