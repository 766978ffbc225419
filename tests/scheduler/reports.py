"""Reports about newsletters, as the sender, inbound and the suppression list publish them."""

from datetime import UTC, datetime
from typing import TypeVar

from shared.contracts import (
    Category,
    EmailBounced,
    MailReference,
    ReplyClass,
    Report,
    ReportBounced,
    ReportSource,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
)
from shared.contracts.content import NewsletterId

NOW = datetime(2030, 1, 1, tzinfo=UTC)
R = TypeVar("R", bound=Report)


def bounce(
    newsletter: NewsletterId, reply_class: ReplyClass = ReplyClass.MAILBOX_UNKNOWN
) -> EmailBounced:
    """Return the event of a mail that a server refused."""
    return EmailBounced(
        id=f"{newsletter}-bounced",
        at=NOW,
        email_id=str(newsletter),
        client="shop",
        category=Category.BULK,
        recipient="ann@example.org",
        attempt=1,
        reply_class=reply_class,
        metadata={"content_type": "news"},
    )


def late(kind: type[R], newsletter: NewsletterId) -> R:
    """Return a report about a mail that was delivered."""
    mail = MailReference(
        email_id=str(newsletter),
        client="shop",
        category=Category.BULK,
        recipient="ann@example.org",
        metadata={"content_type": "news"},
    )
    known = {"reply_class": ReplyClass.MAILBOX_UNKNOWN} if kind is ReportBounced else {}
    return kind.about(mail, at=NOW, source=ReportSource.DSN, **known)


def complaint(newsletter: NewsletterId, email: str) -> SuppressionAdded:
    """Return the event of a mail that was reported as spam."""
    entry = Suppression(
        email=email,
        address_key="0" * 64,
        client="shop",
        categories=(Category.TRANSACTIONAL, Category.BULK),
        origin=SuppressionOrigin.COMPLAINT,
        email_id=str(newsletter),
        at=datetime(2100, 1, 1, tzinfo=UTC),
    )
    return SuppressionAdded(id=f"{newsletter}-added", at=NOW, suppression=entry, version=1)
