"""One example of every contract of the ledger and of suppression, with every field set."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts import (
    AddSuppressions,
    AnnounceSuppressions,
    CancelEmail,
    Category,
    Contract,
    CountEmails,
    DescribeEmail,
    DescribeSuppression,
    EmailCancelling,
    EmailCounts,
    EmailDescribed,
    EmailFound,
    EmailRecord,
    EmailsCounted,
    EmailsListed,
    EmailStatus,
    FindEmail,
    ForgetAddress,
    HistoryEntry,
    ListEmails,
    ListSuppressions,
    MailReference,
    NewSuppression,
    RecipientStatus,
    RemoveSuppressions,
    Reply,
    ReplyClass,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportKind,
    ReportSource,
    Stage,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
    SuppressionsChanged,
    SuppressionsListed,
)
from shared.contracts.fields import Tag

AT = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)
EMAIL = "3f0c7a4e-5a0e-4f5c-9b0e-2f8f1d0a7c11"
EVENT = "9d2b1c70-8f6e-5a34-8d43-6f6f0b7f5e02"
MESSAGE_ID = f"<{EMAIL}@postrider.example>"

REFUSAL = Reply(stage=Stage.RCPT, code=550, enhanced="5.1.1", text="no such user")
RECORD = EmailRecord(
    email_id=EMAIL,
    client="shop",
    category=Category.BULK,
    from_="news@postrider.example",
    subject="Grüße",
    list_id="news",
    tags={"campaign": "spring"},
    metadata={"order": "4711"},
    size_bytes=1234,
    message_id=MESSAGE_ID,
    accepted_at=AT,
    expires_at=AT + timedelta(days=5),
    scheduled_at=AT + timedelta(days=1),
    recipients=(
        RecipientStatus(
            recipient="ann@example.org",
            status=EmailStatus.BOUNCED,
            attempts=1,
            at=AT,
            reply=REFUSAL,
            reply_class=ReplyClass.MAILBOX_UNKNOWN,
            reason="it does not exist",
        ),
    ),
)
COUNTS = EmailCounts(
    since=AT,
    accepted=78,
    waiting=12,
    delivered=11,
    bounced_permanent=10,
    bounced_transient=9,
    bounced_undetermined=8,
    failed=7,
    expired=6,
    suppressed=5,
    cancelled=4,
    uncertain=6,
)
SUPPRESSION = Suppression(
    client="shop",
    list_id="news",
    email="ann@example.org",
    address_key="0123456789abcdef" * 4,
    categories=(Category.BULK,),
    origin=SuppressionOrigin.UNSUBSCRIBE,
    reason="opted out",
    email_id=EMAIL,
    at=AT,
    expires_at=AT + timedelta(days=365),
)

REFERENCE = MailReference(
    email_id=EMAIL,
    category=Category.BULK,
    client="shop",
    message_id=MESSAGE_ID,
    recipient="ann@example.org",
    tags=(Tag(name="campaign", value="spring"),),
    metadata={"order": "4711"},
)
REPORT: Mapping[str, Any] = {
    **dict(REFERENCE),
    "id": EVENT,
    "at": AT,
    "source": ReportSource.DSN,
    "reporter": "mx.example.org",
}

LEDGER_EXAMPLES: tuple[Contract, ...] = (
    DescribeEmail(id=EVENT, email_id=EMAIL, client="shop"),
    EmailDescribed(
        id=EVENT,
        email=RECORD,
        history=(
            HistoryEntry(
                recipient="ann@example.org",
                status=EmailStatus.FAILED,
                attempt=1,
                at=AT,
                reply=REFUSAL,
                reply_class=ReplyClass.MAILBOX_UNKNOWN,
                reason="in words",
                retry_after=60.5,
                report=ReportKind.BOUNCED,
                source=ReportSource.DSN,
                reporter="mx.example.org",
            ),
        ),
        clients=("shop",),
        forgotten=True,
    ),
    FindEmail(
        id=EVENT,
        mail_key="0123456789abcdef0123" * 2,
        address_hash=-4711,
        email_id=None,
        message_id=None,
        recipient="ann@example.org",
    ),
    EmailFound(id=EVENT, email=REFERENCE),
    ListEmails(
        id=EVENT,
        client="shop",
        recipient="ann@example.org",
        status=EmailStatus.BOUNCED,
        category=Category.BULK,
        tag="campaign:spring",
        since=AT,
        until=AT + timedelta(days=1),
        after="19ca2f3b8d0a1b2c",
        limit=10,
    ),
    EmailsListed(id=EVENT, emails=(RECORD,), next="19ca2f3b8d0a1b2c"),
    CountEmails(
        id=EVENT,
        client="shop",
        since=AT,
        until=AT + timedelta(days=1),
        by="day",
        timezone="Europe/Berlin",
        category=Category.BULK,
        tag="campaign",
        domain="example.org",
        forgotten=True,
    ),
    EmailsCounted(id=EVENT, periods=(COUNTS,), total=COUNTS),
    CancelEmail(id=EVENT, email_id=EMAIL, client="shop"),
    EmailCancelling(id=EVENT, waiting=4, undecided=1, ended=2, cancelled=3),
    SuppressionAdded(id=EVENT, at=AT, suppression=SUPPRESSION, version=1),
    SuppressionRemoved(id=EVENT, at=AT, suppression=SUPPRESSION, version=2),
    DescribeSuppression(id=EVENT, email="ann@example.org", client="shop"),
    ListSuppressions(
        id=EVENT,
        client="shop",
        origin=SuppressionOrigin.UNSUBSCRIBE,
        after="WzEsImEiLCJiIiwiYyIsImQiXQ==",
        limit=10,
    ),
    SuppressionsListed(id=EVENT, suppressions=(SUPPRESSION,), next="WzEsImEiLCJiIiwiYyIsImQiXQ=="),
    AddSuppressions(
        id=EVENT,
        suppressions=(
            NewSuppression(
                client="shop",
                list_id="news",
                email="ann@example.org",
                categories=(Category.BULK,),
                origin=SuppressionOrigin.MANUAL,
                reason="asked by phone",
                expires_at=AT,
            ),
        ),
    ),
    RemoveSuppressions(
        id=EVENT,
        emails=("ann@example.org",),
        client="shop",
        origin=SuppressionOrigin.MANUAL,
        list_id="news",
    ),
    SuppressionsChanged(id=EVENT, suppressions=(SUPPRESSION,)),
    AnnounceSuppressions(id=EVENT),
    ForgetAddress(id=EVENT, email="ann@example.org"),
    ReportBounced(
        **REPORT, reply=REFUSAL, reply_class=ReplyClass.MAILBOX_UNKNOWN, rule="unknown-user@2026-11"
    ),
    ReportDelayed(**REPORT, reply=REFUSAL),
    ReportDelivered(**REPORT, reply=REFUSAL),
    ReportComplained(**REPORT, feedback_type="abuse"),
)
