"""Pure: the mail that a command asks for, as the octets that go over the wire.

The output is 7-bit clean but for addresses that need SMTPUTF8, every line ends in CRLF and has at
most 998 octets (RFC 5321 4.5.3.1.6), and the same command always gives the same octets.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.sender.mail import headers, mime
from services.sender.mail.mime import MailContent
from shared.contracts import Category, SendEmail, address

# A dot at the end of an id or before another dot is not RFC 5322's dot-atom; `=` is in no id.
_STRAY_DOT = re.compile(r"\.(?=\.|$)")


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class MailDefaults:
    """What a command leaves open: the default From and the domain of our Message-IDs."""

    from_: str
    message_id_domain: str


def _allowed() -> None:
    """Allow the next step of an attempt that nothing holds back."""


@dataclass(slots=True)
class AttemptProgress:
    """How far an attempt has come, for the handler, which may be cut off from its end.

    `relay` is the one that has replied, `host:port`, empty as long as there is none. It is
    `suspected` if it refused the sender for a reason that may be its own (see `SenderRefusals`).
    `begin` is called right before MAIL, `commit` right before each piece of the content. Either
    raises an exception when the step must not be taken any more.
    """

    content_begun: bool = False  # so that the final dot may have left: the mail may be there
    relay: str = ""
    suspected: bool = False
    begin: Callable[[], None] = _allowed
    commit: Callable[[], None] = _allowed

    @property
    def host(self) -> str:
        """Whose replies they are."""
        return self.relay.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """An envelope and its content, ready for one SMTP transaction.

    From `not_after` on MAIL is not to be said any more. `envelope_id` stands in what others report
    of the mail (RFC 3461 4.4): at most 100 letters, digits, dots, hyphens and underscores.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    needs_smtputf8: bool
    not_after: datetime | None = None
    envelope_id: str = ""
    progress: AttemptProgress = field(default_factory=AttemptProgress, compare=False)

    @property
    def within_ascii(self) -> tuple[str, ...]:
        """The recipients that a server without SMTPUTF8 can send it to (RFC 6531 3.2)."""
        if not self.needs_smtputf8:
            return self.recipients
        able = tuple(filter(str.isascii, self.recipients))
        # Where it is not the recipients alone, the headers need it, which are for all.
        alone = len(able) < len(self.recipients)
        return able if alone and self.sender.isascii() and self.content.isascii() else ()


def compose(
    command: SendEmail, content: MailContent, letterhead: MailDefaults, date: datetime
) -> OutgoingMail:
    """Build the mail; `date` is when it was accepted. Bcc goes into the envelope alone.

    The Message-ID comes from the command's id, so that every attempt has the same.
    """
    from_ = command.from_ or letterhead.from_
    sender, recipients = address.bare_address(from_), tuple(dict.fromkeys(command.recipients))
    head = _head(command, from_, letterhead.message_id_domain, date)
    return OutgoingMail(
        sender=sender,
        recipients=recipients,
        content=(head + mime.entity(content, command.attachments)).encode(),
        needs_smtputf8=not (head + sender + "".join(recipients)).isascii(),
        not_after=command.expires_at,
        envelope_id=command.id,
    )


def _head(command: SendEmail, from_: str, domain: str, date: datetime) -> str:
    lines = [
        f"Date: {_written(date)}\r\n",
        headers.mailboxes("From", from_),
        headers.mailboxes("To", *command.to),
        headers.mailboxes("Cc", *command.cc) if command.cc else "",
        headers.mailboxes("Reply-To", command.reply_to) if command.reply_to else "",
        headers.unstructured("Subject", command.subject),
        f"Message-ID: <{_STRAY_DOT.sub('=2E', command.id)}@{domain}>\r\n",
        # RFC 3834 5: nobody's auto-responder is to answer a code.
        "Auto-Submitted: auto-generated\r\n" if command.category is Category.OTP else "",
        *(headers.custom(name, value) for name, value in command.headers.items()),
        "MIME-Version: 1.0\r\n",
    ]
    return "".join(lines)


def _written(date: datetime) -> str:
    """Return a date as a header has it (RFC 5322 3.3), whatever the locale."""
    zone = f"{date:%z}" if date.utcoffset() else "+0000"
    return (
        f"{_DAYS[date.weekday()]}, {date.day:02} {_MONTHS[date.month - 1]} {date.year:04}"
        f" {date.hour:02}:{date.minute:02}:{date.second:02} {zone}"
    )
