"""Reports about mails that were sent: a later bounce, delay, delivery or complaint.

A report comes from the recipient's server, from one on the way there, or from a mail provider. It
follows the outcome of the sender, whose relay had accepted the mail.
"""

from enum import StrEnum
from hashlib import sha256
from operator import not_
from typing import Annotated, Any, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.fields import Id, Metadata, ShortText, Tags
from shared.contracts.mail import Category
from shared.contracts.message import Event
from shared.contracts.outcomes import MAX_OUTCOME_BYTES, RULE, Reply, ReplyClass

MAX_REPORTER_CHARS = 255  # of a domain name
MAX_RECEIVED_BYTES = 256 * 1024  # of a mail that was received, as far as it is told
MAX_RECEIVED_HEADERS = 100
MAX_HEADER_NAME_CHARS = 100
MAX_HEADERS_CHARS = 16_384  # names and values of all
MAX_TEXT_CHARS = 32_768
MAX_FEEDBACK_CHARS = 50
FEEDBACK_TYPE = "^[a-z0-9][a-z0-9-]*$"
# RFC 5965 7.3, and those of older loops. The others say that a mail is no spam, or that its DKIM
# signature was wrong (RFC 6591).
COMPLAINT_TYPES = frozenset(
    {"abuse", "fraud", "virus", "other", "opt-out", "opt-out-list", "unsubscribe", "miscategorized"}
)
_EVENTS = UUID("b8c1f0a2-3d5e-4f6b-8a77-51e2c94d6f30")  # the name space of our event ids


class ReportSource(StrEnum):
    """The form in which a report came, or the provider whose webhook has made it."""

    DSN = "dsn"  # RFC 3464, or an older form
    ARF = "arf"  # RFC 5965
    SES = "ses"
    SENDGRID = "sendgrid"
    POSTMARK = "postmark"
    MAILGUN = "mailgun"
    RESEND = "resend"


class ReportKind(StrEnum):
    """The fact that a report states; only `bounced` changes the state of a mail."""

    BOUNCED = "bounced"
    DELAYED = "delayed"  # a server on the way still tries
    DELIVERED = "delivered"
    COMPLAINED = "complained"  # the recipient called the mail spam


class MailReference(BaseModel):
    """A mail and one of its recipients, as the ledger knows them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email_id: Id
    category: Category
    client: Id | None = Field(None, description="The client whose mail it is")
    message_id: ShortText | None = Field(
        None, description="The mail's Message-ID header (RFC 5322 3.6.4)"
    )
    recipient: ShortText
    tags: Tags = Field((), exclude_if=not_, description="Those of the command")
    metadata: Metadata = Field(
        default_factory=dict, exclude_if=not_, description="That of the command"
    )


class Report(MailReference, Event):
    """A report about one mail to one recipient. Copies of a report have one id."""

    must_arrive = True  # its reporter was answered that it is kept
    max_bytes = MAX_OUTCOME_BYTES

    source: ReportSource
    reporter: str | None = Field(
        None, max_length=MAX_REPORTER_CHARS, description="The server that made the report"
    )

    @classmethod
    def about(
        cls,
        mail: MailReference,
        **more: Any,  # noqa: ANN401 -- the fields of that kind, which pydantic checks
    ) -> Self:
        """Return a report about a mail. There is one of each kind for a mail and recipient."""
        content = "\n".join((mail.client or "", mail.email_id, mail.recipient, cls.keys[0]))
        known = {name: getattr(mail, name) for name in MailReference.model_fields}
        return cls(id=str(uuid5(_EVENTS, content)), **known, **more)

    @property
    def kind(self) -> ReportKind:
        """The fact that it states."""
        return ReportKind(self.keys[0].partition(".")[2])


class ReportBounced(Report):
    """Signals that a mail was refused after a relay had accepted it: it did not arrive."""

    keys = ("report.bounced",)

    reply: Reply | None = Field(
        None, description="That a server had to the mail; absent if the report does not quote it"
    )
    reply_class: ReplyClass
    rule: str | None = RULE


class ReportDelayed(Report):
    """Signals that a server on the way could not pass the mail on yet, and tries again."""

    keys = ("report.delayed",)

    reply: Reply | None = None


class ReportDelivered(Report):
    """Signals that a server further on has accepted the mail."""

    keys = ("report.delivered",)

    reply: Reply | None = None


class ReportComplained(Report):
    """Signals that the recipient has reported the mail as spam."""

    keys = ("report.complained",)

    feedback_type: Annotated[
        str, StringConstraints(max_length=MAX_FEEDBACK_CHARS, pattern=FEEDBACK_TYPE)
    ] = Field("abuse", description="Of RFC 5965 7.3, such as abuse or fraud")


class ReceivedHeader(BaseModel):
    """A header field of a mail, decoded (RFC 2047)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(max_length=MAX_HEADER_NAME_CHARS)
    value: str = Field(max_length=MAX_HEADERS_CHARS)


class MailReceived(Event):
    """Signals that a mail came to a return path, or to another address for reports, and is none.

    The fields from `client` to `metadata` are those of the mail that it answers: its return path
    proves it. They are absent for a mail to another address.
    """

    keys = ("mail.received",)
    must_arrive = True  # its sender was answered that it is kept
    max_bytes = MAX_RECEIVED_BYTES

    sender: ShortText = Field(description="Of the envelope; empty for the null sender")
    to: ShortText = Field(description="The address that it came to")
    headers: tuple[ReceivedHeader, ...] = Field(
        max_length=MAX_RECEIVED_HEADERS, description="In their order, the first ones"
    )
    text: str = Field(
        max_length=MAX_TEXT_CHARS,
        description="Of its first plain part, the beginning; empty if it has none",
    )
    is_cut: bool = Field(description="Whether headers or text are not all that came")
    client: Id | None = None
    email_id: Id | None = None
    category: Category | None = None
    message_id: ShortText | None = None
    recipient: ShortText | None = None
    tags: Tags = Field((), exclude_if=not_)
    metadata: Metadata = Field(default_factory=dict, exclude_if=not_)

    @classmethod
    def about(cls, mail: MailReference | None, content: bytes, **more: Any) -> Self:  # noqa: ANN401 -- the other fields, which pydantic checks
        """Return the event of a mail. The same content to the same address is one event."""
        names = () if mail is None else MailReference.model_fields
        known = {name: getattr(mail, name) for name in names}
        id_ = uuid5(_EVENTS, f"{more['to']}\n{sha256(content).hexdigest()}")
        return cls(id=str(id_), **known, **more)
