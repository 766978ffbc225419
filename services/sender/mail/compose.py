"""Composing the mail of a command, as the octets on the wire.

The output is 7-bit clean, except for addresses that need SMTPUTF8. Every line ends in CRLF and has
at most 998 octets (RFC 5321 4.5.3.1.6). The same command always gives the same octets.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from services.sender.mail import headers, mime
from services.sender.mail.mime import MailContent
from shared.contracts import Category, SendEmail, address

# RFC 5322's dot-atom has no dot at the end or before another dot; `=` occurs in no id.
_STRAY_DOT = re.compile(r"\.(?=\.|$)")
MAX_POSTMARK_CHARS = 80  # of a value; it refuses a mail with a longer one
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class MailProvider(StrEnum):
    """A provider whose webhooks name a mail only by an argument that the mail came with."""

    POSTMARK = "postmark"
    SENDGRID = "sendgrid"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class MailDefaults:
    """The default From of a command, the domain of our Message-IDs, and the provider behind."""

    from_: str
    message_id_domain: str
    provider: MailProvider | None = None


def _allowed() -> None:
    """Allow the next step of an attempt."""


async def _not_stopped(_: Sequence[str]) -> None:
    """Allow a mail to these recipients."""


@dataclass(slots=True)
class AttemptProgress:
    """The progress of an attempt, for a handler that is cancelled before its end.

    `relay` is the relay that has replied, `host:port`, empty before that. It is `suspected` if it
    refused the sender for a reason that may be its own (see `SenderRefusals`). `check` is awaited
    for the recipients of a transaction once there is a connection for it. `begin` is called right
    before MAIL, `commit` right before each piece of the content. Each raises an exception when the
    step must not be made any more. `attempt` is its number, from 1.
    """

    attempt: int = 1
    content_begun: bool = False  # then the final dot may have left, and the mail be accepted
    relay: str = ""
    suspected: bool = False
    check: Callable[[Sequence[str]], Awaitable[None]] = _not_stopped
    begin: Callable[[], None] = _allowed
    commit: Callable[[], None] = _allowed

    @property
    def host(self) -> str:
        """The host of the relay."""
        return self.relay.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """An envelope and its content, ready for one SMTP transaction.

    From `not_after` on MAIL must not be sent. `envelope_id` appears in reports about the mail
    (RFC 3461 4.4): at most 100 letters, digits, dots, hyphens and underscores. `to_7bit` returns
    the content for a server without 8BITMIME, None if it has no 8-bit octet in its body.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    needs_smtputf8: bool
    not_after: datetime | None = None
    envelope_id: str = ""
    client: str | None = None
    to_7bit: Callable[[], bytes] | None = field(default=None, compare=False)
    progress: AttemptProgress = field(default_factory=AttemptProgress, compare=False)

    @property
    def within_ascii(self) -> tuple[str, ...]:
        """The recipients that a server without SMTPUTF8 can serve (RFC 6531 3.2)."""
        if not self.needs_smtputf8:
            return self.recipients
        able = tuple(filter(str.isascii, self.recipients))
        head = self.content.partition(b"\r\n\r\n")[0]
        # Unless only recipients need SMTPUTF8, the headers do, which all recipients get.
        alone = len(able) < len(self.recipients)
        return able if alone and self.sender.isascii() and head.isascii() else ()

    def in_7bit(self) -> Self:
        """Return the mail without 8-bit octets in its body, which may take 100 ms."""
        return replace(self, content=self.to_7bit(), to_7bit=None) if self.to_7bit else self


def message_id(command_id: str, domain: str) -> str:
    """Return the Message-ID of a command's mail (RFC 5322 3.6.4), the same at each attempt."""
    return f"<{_STRAY_DOT.sub('=2E', command_id)}@{domain}>"


def compose(
    command: SendEmail, content: MailContent, defaults: MailDefaults, date: datetime
) -> OutgoingMail:
    """Build the mail; `date` is when it was accepted. Bcc is only in the envelope.

    The Message-ID comes from the command's id, so that every attempt has the same.
    """
    from_ = command.from_ or defaults.from_
    sender, recipients = address.bare_address(from_), tuple(dict.fromkeys(command.recipients))
    head = _head(command, from_, defaults, date)
    return OutgoingMail(
        sender=sender,
        recipients=recipients,
        content=(head + mime.entity(content, command.attachments, command.calendar)).encode(),
        needs_smtputf8=not (head + sender + "".join(recipients)).isascii(),
        not_after=command.expires_at,
        envelope_id=command.id,
        client=command.client,
    )


def _head(command: SendEmail, from_: str, defaults: MailDefaults, date: datetime) -> str:
    id_ = message_id(command.id, defaults.message_id_domain)
    lines = [
        f"Date: {_formatted(date)}\r\n",
        headers.mailboxes("From", from_),
        headers.mailboxes("To", *command.to),
        headers.mailboxes("Cc", *command.cc) if command.cc else "",
        headers.mailboxes("Reply-To", *command.reply_to) if command.reply_to else "",
        headers.unstructured("Subject", command.subject),
        f"Message-ID: {id_}\r\n",
        _argument(command, id_, defaults.provider) if defaults.provider else "",
        # RFC 3834 5: no auto-responder must answer a code.
        "Auto-Submitted: auto-generated\r\n" if command.category is Category.OTP else "",
        *(headers.custom(name, value) for name, value in command.headers.items()),
        "MIME-Version: 1.0\r\n",
    ]
    return "".join(lines)


def _argument(command: SendEmail, id_: str, provider: MailProvider) -> str:
    """Return the header by which a provider returns the Message-ID in its webhooks.

    A command that has this header already keeps its own.
    """
    name, value = {
        MailProvider.POSTMARK: ("X-PM-Metadata-postrider", id_),
        MailProvider.SENDGRID: ("X-SMTPAPI", json.dumps({"unique_args": {"postrider": id_}})),
        MailProvider.RESEND: ("X-Postrider-Id", id_),
    }[provider]
    is_too_long = provider is MailProvider.POSTMARK and len(id_) > MAX_POSTMARK_CHARS
    if is_too_long or name.lower() in {each.lower() for each in command.headers}:
        return ""
    return f"{name}: {value}\r\n"


def _formatted(date: datetime) -> str:
    """Return a date in the form of RFC 5322 3.3; `email.utils` takes three times as long."""
    zone = f"{date:%z}" if date.utcoffset() else "+0000"
    return (
        f"{_DAYS[date.weekday()]}, {date.day:02} {_MONTHS[date.month - 1]} {date.year:04}"
        f" {date.hour:02}:{date.minute:02}:{date.second:02} {zone}"
    )
