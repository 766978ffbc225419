"""The command to send a mail, and the commands to the scheduler, which mails again and again."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from shared.contracts import address, header
from shared.contracts.attachment import Attachments, CalendarObject
from shared.contracts.fields import (
    MAX_RECIPIENTS,
    NOT_EMPTY,
    Addresses,
    Attempt,
    Id,
    Mailbox,
    Mailboxes,
    Metadata,
    OptionalMoment,
    ReplyTo,
    Retries,
    ShortText,
    Subject,
    Tags,
    Text,
)
from shared.contracts.message import Command
from shared.contracts.mime import MessageIdText, Mime, check_claims

# RabbitMQ 4 takes 16 MiB and closes the channel for more. The sender's copy for the next attempt is
# larger than the command: it has all defaults and a list of the pending recipients.
MAX_MAIL_BYTES = (16 * 1024 - 256) * 1024
_NOT_WITH_MIME = (
    *("cc", "bcc", "reply_to", "text", "html"),
    *("sealed", "attachments", "calendar", "headers"),
)
MAX_SEALED_CHARS = 1024 * 1024  # enough for a mail with a code in a template of a deployment


def _check_reverse_path(text: str) -> str:
    """Return the address of MAIL FROM, which may be empty (RFC 5321 4.5.5). Raises ValueError."""
    return address.check_address(text) if text else ""


def _each_once(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))


def _bare_addresses(*mailboxes: tuple[str, ...]) -> tuple[str, ...]:
    return _each_once(tuple(map(address.bare_address, chain(*mailboxes))))


def _check_room(*mailboxes: tuple[str, ...]) -> None:
    if sum(map(len, mailboxes)) > MAX_RECIPIENTS:
        raise ValueError(f"must have at most {MAX_RECIPIENTS} recipients")


class Category(StrEnum):
    """The three sending classes, each with a queue and SMTP connections of its own."""

    OTP = "otp"
    TRANSACTIONAL = "transactional"
    BULK = "bulk"


def _routing_key(category: Category, scheduled_at: datetime | None) -> str:
    return f"email.{'send' if scheduled_at is None else 'schedule'}.{category}"


def check_class(category: Category, headers: Mapping[str, str], list_id: str | None) -> None:
    """Raise ValueError for what a mail of a class cannot have.

    A code cannot be unsubscribed from. An opt-out of a list stops bulk mail alone.
    """
    if category is Category.OTP and header.UNSUBSCRIBE in headers:
        raise ValueError("must not offer to unsubscribe from a code")
    if category is not Category.BULK and list_id is not None:
        raise ValueError("must be bulk to have a `list_id`")


class SendEmail(Command):
    """Asks the sender to deliver one message to each of its recipients."""

    keys = (
        *("email.send.otp", "email.send.transactional", "email.send.bulk"),
        *("email.schedule.transactional", "email.schedule.bulk"),
    )
    max_bytes = MAX_MAIL_BYTES

    category: Category = Category.TRANSACTIONAL
    from_: Mailbox | None = Field(None, alias="from", description="The sender's default if absent")
    to: Annotated[Mailboxes, NOT_EMPTY]
    cc: Mailboxes = ()
    bcc: Mailboxes = ()
    reply_to: ReplyTo = Field(None, description="One mailbox, or a list of several")
    subject: Subject
    text: Text | None = Field(None, repr=False)
    html: Text | None = Field(None, repr=False)
    sealed: str | None = Field(
        None,
        max_length=MAX_SEALED_CHARS,
        repr=False,
        description="Content that only the sender can open",
    )
    attachments: Attachments = Field((), repr=False)
    calendar: CalendarObject | None = Field(
        None, repr=False, description="An invitation or its like, as one more form of the text"
    )
    headers: header.Headers = Field(default_factory=dict, description="List-*, X-* and a few more")
    mime: Mime | None = Field(
        None,
        repr=False,
        description="A whole mail as base64, which is sent as it is; in place of all other content."
        " `to` is then the envelope, and `from` its From",
    )
    message_id: MessageIdText | None = Field(None, description="The Message-ID of `mime`")
    envelope_from: Annotated[ShortText, AfterValidator(_check_reverse_path)] | None = Field(
        None,
        description="Of `mime`: where reports go; empty for nowhere, as `from` if absent",
    )
    tags: Tags = Field((), description="Labels by which outcomes are found; not in the mail")
    metadata: Metadata = Field(
        default_factory=dict, description="Returned with each outcome; not in the mail"
    )
    list_id: Id | None = Field(
        None, description="The list that a bulk mail belongs to, by which an opt-out stops it"
    )
    client: Id | None = None
    created_at: OptionalMoment = Field(
        None, description="When it was accepted; before 1970 it counts as absent"
    )
    expires_at: OptionalMoment = Field(
        None, description="The mail is not sent from then on; before 1970 it counts as absent"
    )
    scheduled_at: OptionalMoment = Field(
        None, description="The scheduler keeps the mail until then; the sender never sees the field"
    )
    accepted_at: OptionalMoment = Field(
        None,
        description="When a mail for later was accepted, as the scheduler publishes it; its "
        "`created_at` is then the time of that, from which its age counts",
    )
    retries: Retries | None = Field(
        None,
        description="The largest number of further attempts; if absent, only the schedule counts",
    )
    attempt: Attempt = 1
    pending: Annotated[Addresses, NOT_EMPTY, AfterValidator(_each_once)] | None = Field(
        None, description="The recipients of to, cc and bcc without a final outcome; all if absent"
    )

    @property
    def routing_key(self) -> str:
        """The key of the category, which has a queue of its own; of the scheduler for later."""
        return _routing_key(self.category, self.scheduled_at)

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope recipients of this attempt, each address once."""
        return self._everyone if self.pending is None else self.pending

    @property
    def _everyone(self) -> tuple[str, ...]:
        return _bare_addresses(self.to, self.cc, self.bcc)

    @model_validator(mode="after")
    def _has_content_and_room(self) -> Self:
        if self.mime is not None:
            self._check_mime(self.mime)
        elif self.text is None and self.html is None and self.sealed is None:
            raise ValueError("must have a text or an html part")
        elif self.message_id is not None or self.envelope_from is not None:
            raise ValueError("must have no message_id and no envelope_from without `mime`")
        _check_room(self.to, self.cc, self.bcc)
        if self.pending is not None and not {*self.pending} <= {*self._everyone}:
            raise ValueError("must have no pending recipients that are not in to, cc or bcc")
        check_class(self.category, self.headers, self.list_id)
        if self.category is Category.OTP and self.scheduled_at is not None:
            raise ValueError("must not schedule a code")
        return self

    def _check_mime(self, mime: str) -> None:
        """Raise ValueError for other content beside a whole mail, or for what contradicts it."""
        if beside := [name for name in _NOT_WITH_MIME if getattr(self, name)]:
            raise ValueError(f"must have no {', '.join(beside)} beside `mime`")
        if self.from_ is None or self.message_id is None:
            raise ValueError("must have `from` and `message_id` with `mime`")
        check_claims(mime, self.from_, self.message_id)


class AcceptedEmail(Command):
    """The fields of a `SendEmail` that the ledger keeps; its content is skipped, not checked."""

    keys = SendEmail.keys
    max_bytes = SendEmail.max_bytes

    category: Category = Category.TRANSACTIONAL
    from_: ShortText | None = Field(None, alias="from")
    to: Annotated[Mailboxes, NOT_EMPTY]
    cc: Mailboxes = ()
    bcc: Mailboxes = ()
    subject: Subject
    tags: Tags = ()
    metadata: Metadata = Field(default_factory=dict)
    list_id: Id | None = None
    client: Id | None = None
    created_at: OptionalMoment = None
    expires_at: OptionalMoment = None
    scheduled_at: OptionalMoment = None
    accepted_at: OptionalMoment = None
    message_id: ShortText | None = None
    size_bytes: int = Field(0, exclude=True, description="Of the whole command")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        _check_room(self.to, self.cc, self.bcc)
        return self

    @property
    def routing_key(self) -> str:
        """The key of the category, as the sender or the scheduler gets it."""
        return _routing_key(self.category, self.scheduled_at)

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope recipients, each address once."""
        return _bare_addresses(self.to, self.cc, self.bcc)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the command in a body of JSON, with its size. Raises ValidationError."""
        message = super().read(body)
        # Nobody else has it yet, so it may still change; a copy would cost a fifth of the reading.
        object.__setattr__(message, "size_bytes", len(body))
        return message
