"""Reports as mail servers write them, made of parts."""

from collections.abc import Sequence
from datetime import UTC, datetime

from shared.contracts import Category, MailReference
from shared.return_path import ReturnPaths

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
BOUNCE_KEY = "b0" * 32
DOMAIN = "bounce.our.example"
PATHS = ReturnPaths.from_text(DOMAIN, BOUNCE_KEY)
ANN = "ann@example.org"
MAIL = MailReference(
    email_id="mail-1",
    client="shop",
    category=Category.TRANSACTIONAL,
    recipient=ANN,
    message_id="<mail-1@our.example>",
)
UNKNOWN_USER = "smtp; 550 5.1.1 <ann@example.org>: Recipient address rejected: User unknown"


def a_path(today: datetime = NOW, recipient: str = ANN) -> str:
    """Return the return path of the mail."""
    return PATHS.of("mail-1", "shop", recipient, today.date())


def fields(**values: str | None) -> str:
    """Return the fields of a block; `final_recipient` is Final-Recipient."""
    return "".join(
        f"{'-'.join(map(str.title, name.split('_'))).replace('Mta', 'MTA')}: {value}\r\n"
        for name, value in values.items()
        if value is not None
    )


def recipient_block(**changes: str | None) -> str:
    """Return the block of a recipient, by default of an unknown mailbox."""
    default: dict[str, str | None] = {
        "final_recipient": f"rfc822; {ANN}",
        "action": "failed",
        "status": "5.1.1",
        "remote_mta": "dns; mx.example.org",
        "diagnostic_code": UNKNOWN_USER,
    }
    return fields(**default | changes)


def multipart(kind: str, parts: Sequence[str], **headers: str) -> bytes:
    """Return a multipart/report of a kind, whose parts have their headers."""
    known = {
        "From": "Mail Delivery System <MAILER-DAEMON@mx.example>",
        "To": a_path(),
        "Subject": "Undelivered Mail Returned to Sender",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/report; report-type={kind}; boundary="=_x"',
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in known.items())
    body = "".join(f"--=_x\r\n{part}\r\n" for part in parts)
    return f"{head}\r\n{body}--=_x--\r\n".encode()


def returned(sender: str | None = None) -> str:
    """Return the part with the headers of the mail that was returned."""
    path = a_path() if sender is None else sender
    return (
        "Content-Type: text/rfc822-headers\r\n\r\n"
        f"Return-Path: <{path}>\r\nMessage-ID: <mail-1@our.example>\r\nSubject: Hello\r\n"
    )


def dsn(*blocks: str, reporter: str = "mx.example", kind: str = "delivery-status") -> bytes:
    """Return a DSN (RFC 3464) with blocks of recipients, by default one of an unknown mailbox."""
    status = fields(reporting_mta=f"dns; {reporter}", arrival_date="Sun, 29 Nov 2026 12:00:00 UTC")
    text = "\r\n".join([status, *(blocks or (recipient_block(),))])
    return multipart(
        "delivery-status",
        [
            "Content-Type: text/plain\r\n\r\nYour mail could not be delivered.\r\n",
            f"Content-Type: message/{kind}\r\n\r\n{text}",
            returned(),
        ],
    )


def arf(feedback_type: str = "abuse", sender: str | None = None, **more: str | None) -> bytes:
    """Return a complaint (RFC 5965)."""
    path = a_path() if sender is None else sender
    known: dict[str, str | None] = {
        "feedback_type": feedback_type,
        "user_agent": "SomeGenerator/1.0",
        "version": "1",
        "original_mail_from": f"<{path}>",
    }
    return multipart(
        "feedback-report",
        [
            "Content-Type: text/plain\r\n\r\nThis is an email abuse report.\r\n",
            f"Content-Type: message/feedback-report\r\n\r\n{fields(**known | more)}",
            f"Content-Type: message/rfc822\r\n\r\nReturn-Path: <{path}>\r\n\r\nHi\r\n",
        ],
        From="complaints@isp.example",
    )
