"""The outcome of a mail, for one recipient at one attempt."""

from enum import StrEnum
from operator import not_
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.fields import Attempt, Id, Metadata, Seconds, ShortText, Tags
from shared.contracts.mail import Category
from shared.contracts.message import MAX_SMALL_BYTES, Event
from shared.contracts.suppressions import SuppressionOrigin

MAX_CODE = 999  # three digits (RFC 5321 4.2)
MAX_ENHANCED_CHARS = 9  # such as 5.123.123 (RFC 3463 2)
MAX_REPLY_CHARS = 10_000  # the sender cuts a text at 1,000; masked addresses may be longer
MAX_RULE_CHARS = 200
RULE: Any = Field(
    None,
    max_length=MAX_RULE_CHARS,
    description="The rule that chose the class, @ the version of its set",
)
MAX_REASON_CHARS = 1000
MAX_OUTCOME_BYTES = 4 * MAX_SMALL_BYTES  # 43 kB of metadata and a reply


class Stage(StrEnum):
    """The stage of an SMTP session (RFC 5321)."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


class ReplyClass(StrEnum):
    """Why a server refuses, not for how long; only `mailbox_unknown` is evidence about a domain."""

    MAILBOX_UNKNOWN = "mailbox_unknown"  # the recipient's server has no such mailbox
    MAILBOX_DISABLED = "mailbox_disabled"  # it exists or existed: closed, suspended, moved
    MAILBOX_FULL = "mailbox_full"
    DOMAIN = "domain"  # does not exist, takes no mail, cannot be reached by any route
    POLICY = "policy"  # a rule of the recipient or its server about senders
    SPAM_BLOCK = "spam_block"  # our address is on a block list, or the mail counts as spam
    # SPF, DKIM, DMARC, reverse DNS, the name in EHLO; a sender that the relay does not accept
    AUTH_SENDER = "auth_sender"
    CONTENT = "content"  # a virus, an attachment, a header
    TOO_BIG = "too_big"
    RATE = "rate"  # too many mails, connections or recipients in a time
    TEMPORARY = "temporary"  # greylisting, a fault of the server or of the network
    RELAY_DENIED = "relay_denied"  # the server does not serve this recipient's domain
    OUR_CONFIG = "our_config"  # our login, our TLS, our sender address after MAIL
    PROTOCOL = "protocol"  # a command, or the form of an address, is not understood
    EXPIRED = "expired"  # a server further on has given up
    UNDETERMINED = "undetermined"


class Reply(BaseModel):
    """The reply of an SMTP server, and its stage."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: Stage
    code: int = Field(ge=0, le=MAX_CODE, description="RFC 5321 4.2; 0 if there was no reply")
    enhanced: str | None = Field(
        None, max_length=MAX_ENHANCED_CHARS, description="RFC 3463, such as 5.1.1"
    )
    text: str = Field("", max_length=MAX_REPLY_CHARS)


class Outcome(Event):
    """The outcome of one message for one recipient at one attempt."""

    max_bytes = MAX_OUTCOME_BYTES

    email_id: Id
    category: Category
    client: Id | None = Field(None, description="The client whose mail it is")
    message_id: ShortText | None = Field(
        None, description="The mail's Message-ID header (RFC 5322 3.6.4)"
    )
    recipient: ShortText
    attempt: Attempt
    reply: Reply | None = None
    tags: Tags = Field((), exclude_if=not_, description="Those of the command")
    metadata: Metadata = Field(
        default_factory=dict, exclude_if=not_, description="That of the command"
    )

    @property
    def final(self) -> bool:
        """Whether no other outcome will follow for this message and recipient."""
        return True


class NotAccepted(Outcome):
    """The outcome of a message that no server has accepted for certain."""

    reply_class: ReplyClass | None = Field(None, description="Absent where there is no reply")
    rule: str | None = RULE


class EmailDelivered(Outcome):
    """Signals that the relay accepted the message: 250 to the final dot."""

    keys = ("email.delivered",)


class EmailDeferred(NotAccepted):
    """Signals a temporary failure; the next attempt is in `retry_after` seconds on the mean."""

    keys = ("email.deferred",)

    retry_after: Seconds

    @property
    def final(self) -> bool:
        """A deferred message has another attempt."""
        return False


class EmailBounced(NotAccepted):
    """Signals that the recipient was refused permanently."""

    keys = ("email.bounced",)

    reply_class: ReplyClass


class EmailFailed(NotAccepted):
    """Signals that the message cannot be sent, for a reason other than its recipient."""

    keys = ("email.failed",)

    reason: str = Field(max_length=MAX_REASON_CHARS)


class EmailExpired(NotAccepted):
    """Signals that no attempt is left: too old, out of `retries` or past its `expires_at`."""

    keys = ("email.expired",)


class EmailUncertain(NotAccepted):
    """Signals that the relay may have accepted the message: its reply was lost, or the sender."""

    keys = ("email.uncertain",)

    retry_after: Seconds | None = Field(None, description="Absent when it is not tried again")

    @property
    def final(self) -> bool:
        """Final when the message is held rather than tried again."""
        return self.retry_after is None


class EmailSuppressed(Outcome):
    """Signals that the mail was not sent, since the recipient's address is suppressed."""

    keys = ("email.suppressed",)

    origin: SuppressionOrigin
    reason: str = Field("", max_length=MAX_REASON_CHARS)


class EmailCancelled(Outcome):
    """Signals that the mail was not sent, since its client has cancelled it."""

    keys = ("email.cancelled",)
