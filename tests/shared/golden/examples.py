"""One example of every contract, with every field set."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from shared.attachment import Attachment
from shared.contracts import (
    CancelCode,
    Category,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeVerified,
    CodeWithheld,
    Contract,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailUncertain,
    FeedbackBounced,
    FeedbackDelivered,
    IssueCode,
    Reply,
    ReplyClass,
    SendEmail,
    Stage,
    Verdict,
    VerifyCode,
    Withholding,
)

AT = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)
EMAIL = "3f0c7a4e-5a0e-4f5c-9b0e-2f8f1d0a7c11"
EVENT = "9d2b1c70-8f6e-5a34-8d43-6f6f0b7f5e02"


EXAMPLES: tuple[Contract, ...] = (
    SendEmail(
        id=EMAIL,
        category=Category.BULK,
        from_='"Postrider, Inc." <news@postrider.example>',
        to=("Jürgen <juergen@example.com>", "ann@example.org"),
        cc=("copy@example.com",),
        bcc=("hidden@example.com",),
        reply_to="answers@postrider.example",
        subject="Grüße, 1 < 2",
        text="plain\r\ntext",
        html="<p>rich</p>",
        sealed="c2VhbGVk",
        attachments=(
            Attachment(
                filename="Größe.png",
                content_type="image/png",
                content="iVBORw0KGgo=",
                content_id="logo",
            ),
        ),
        headers={
            "List-Unsubscribe": "<https://postrider.example/u/4711>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "X-Campaign": "Frühling",
        },
        client="shop",
        created_at=AT,
        expires_at=AT + timedelta(days=5),
        retries=5,
        attempt=2,
        pending=("ann@example.org",),
    ),
    EmailDelivered(
        id=EVENT,
        at=AT,
        email_id=EMAIL,
        category=Category.TRANSACTIONAL,
        recipient="ann@example.org",
        attempt=1,
        reply=Reply(stage=Stage.DOT, code=250, enhanced="2.0.0", text="queued as 4Xy"),
    ),
    EmailDeferred(
        id=EVENT,
        at=AT,
        email_id=EMAIL,
        category=Category.OTP,
        recipient="ann@example.org",
        attempt=1,
        reply=Reply(stage=Stage.RCPT, code=451, enhanced="4.7.1", text="greylisted"),
        reply_class=ReplyClass.TEMPORARY,
        rule="greylisted@1",
        retry_after=60.5,
    ),
    EmailBounced(
        id=EVENT,
        at=AT,
        email_id=EMAIL,
        category=Category.BULK,
        recipient="ann@example.org",
        attempt=1,
        reply=Reply(stage=Stage.RCPT, code=550, enhanced="5.1.1", text="no such user"),
        reply_class=ReplyClass.MAILBOX_UNKNOWN,
        rule="user-unknown@1",
    ),
    EmailFailed(
        id=EVENT,
        at=AT,
        email_id=EMAIL,
        category=Category.BULK,
        recipient="ann@example.org",
        attempt=1,
        reply=Reply(stage=Stage.MAIL, code=530, enhanced="5.7.0", text="authenticate first"),
        reply_class=ReplyClass.OUR_CONFIG,
        rule="login@1",
        reason="the relay refuses the sender",
    ),
    EmailExpired(
        id=EVENT,
        at=AT,
        email_id=EMAIL,
        category=Category.TRANSACTIONAL,
        recipient="ann@example.org",
        attempt=9,
        reply=Reply(stage=Stage.CONNECT, code=0, enhanced=None, text=""),
        reply_class=ReplyClass.TEMPORARY,
        rule="no-reply",
    ),
    EmailUncertain(
        id=EVENT,
        at=AT,
        email_id=EMAIL,
        category=Category.TRANSACTIONAL,
        recipient="ann@example.org",
        attempt=3,
        reply=Reply(stage=Stage.DOT, code=0, enhanced=None, text="connection lost"),
        reply_class=ReplyClass.TEMPORARY,
        rule="no-reply",
        retry_after=300.0,
    ),
    IssueCode(
        id=EMAIL,
        email="ann@example.org",
        client="shop",
        purpose="sign-in",
        length=8,
        locale="de-AT",
        ip=IPv4Address("192.0.2.7"),
    ),
    VerifyCode(id=EMAIL, email="ann@example.org", code="482913", client="shop", purpose="sign-in"),
    CancelCode(id=EMAIL, challenge_id=EVENT, client="shop"),
    CodeIssued(
        id=EVENT,
        at=AT,
        challenge_id=EMAIL,
        email="ann@example.org",
        client="shop",
        purpose="sign-in",
        expires_at=AT + timedelta(minutes=10),
        resend_at=AT + timedelta(minutes=1),
    ),
    CodeWithheld(id=EVENT, reason=Withholding.COOLDOWN, retry_after=42.5),
    CodeVerified(
        id=EVENT,
        at=AT,
        challenge_id=EMAIL,
        email="ann@example.org",
        client="shop",
        purpose="sign-in",
    ),
    CodeRefused(id=EVENT, at=AT, email="ann@example.org", client="shop", purpose="sign-in"),
    CodeCancelled(id=EVENT, challenge_id=EMAIL),
    FeedbackDelivered(id=EVENT, at=AT, domain="xn--bcher-kva.example", client="shop"),
    FeedbackBounced(id=EVENT, at=AT, domain="xn--bcher-kva.example", client="shop"),
    DomainClassified(id=EVENT, at=AT, domain="example.org", status=Verdict.NOT_CATCH_ALL),
    DescribeDomain(id=EMAIL, domain="example.org"),
    DomainDescribed(
        id=EMAIL, domain="example.org", status=Verdict.CATCH_ALL, delivered=1001, bounced=0
    ),
)


def path_of(contract: type[Contract]) -> Path:
    """Name the golden file of a contract."""
    return Path(__file__).parent / f"{contract.__name__}.json"
