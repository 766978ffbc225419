"""The life of a message as text."""

from datetime import UTC, datetime, timedelta

from ops import message_text
from shared.contracts import (
    Category,
    EmailRecord,
    EmailStatus,
    HistoryEntry,
    RecipientStatus,
    Reply,
    ReplyClass,
    Stage,
)

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
ADA, BOB = "ada@one.example", "bob@two.example"


def test_a_life_has_the_facts_and_each_outcome() -> None:
    """Each recipient has its outcomes in order; facts that are absent have no line."""
    email = EmailRecord(
        email_id="m-1",
        client="shop",
        category=Category.BULK,
        subject="Hello",
        tags={"campaign": "spring"},
        size_bytes=17,
        accepted_at=AT,
        recipients=(
            RecipientStatus(recipient=ADA, status=EmailStatus.DELIVERED, attempts=2),
            RecipientStatus(recipient=BOB, status=EmailStatus.WAITING, attempts=0),
        ),
    )
    refusal = Reply(stage=Stage.RCPT, code=451, enhanced="4.7.1", text="later")
    history = [
        HistoryEntry(
            recipient=ADA,
            status=EmailStatus.DEFERRED,
            attempt=1,
            at=AT + timedelta(seconds=1),
            reply=refusal,
            reply_class=ReplyClass.TEMPORARY,
            retry_after=15,
        ),
        HistoryEntry(
            recipient=ADA,
            status=EmailStatus.DELIVERED,
            attempt=2,
            at=AT + timedelta(seconds=16),
            reply=Reply(stage=Stage.DOT, code=250),
        ),
    ]

    assert message_text.life(email, history).splitlines() == [
        "id          m-1",
        "client      shop",
        "category    bulk",
        "subject     Hello",
        "tags        campaign:spring",
        "size        17 bytes",
        "accepted    2026-11-29 12:00:00+00:00",
        "",
        "ada@one.example: delivered",
        "  2026-11-29 12:00:01+00:00  attempt 1  deferred; 451 4.7.1 later; temporary; again in 15 s",  # noqa: E501 -- a line of the output
        "  2026-11-29 12:00:16+00:00  attempt 2  delivered; 250",
        "",
        "bob@two.example: waiting",
    ]
