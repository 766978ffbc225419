"""What became of a mail, for one recipient at one attempt."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.fields import Attempt, Id, Seconds, ShortText
from shared.contracts.mail import Category
from shared.contracts.message import Event

MAX_CODE = 999  # three digits (RFC 5321 4.2)
MAX_ENHANCED_CHARS = 9  # such as 5.123.123 (RFC 3463 2)
MAX_REPLY_CHARS = 10_000  # the sender cuts a text at 1,000; masked addresses may be longer
MAX_RULE_CHARS = 200
MAX_REASON_CHARS = 1000


class Stage(StrEnum):
    """Where in the SMTP conversation something happened (RFC 5321)."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


class ReplyClass(StrEnum):
    """Why a server says no, not for how long; only `mailbox_unknown` is evidence about a domain."""

    MAILBOX_UNKNOWN = "mailbox_unknown"  # the recipient's server has no such mailbox
    MAILBOX_DISABLED = "mailbox_disabled"  # it is there, or was: closed, suspended, moved
    MAILBOX_FULL = "mailbox_full"
    DOMAIN = "domain"  # does not exist, takes no mail, cannot be reached by any route
    POLICY = "policy"  # a rule of the recipient or its server: who may write to whom
    SPAM_BLOCK = "spam_block"  # we are on a block list, or the mail was taken for spam
    # SPF, DKIM, DMARC, reverse DNS, the name in EHLO; a sender that the relay does not take
    AUTH_SENDER = "auth_sender"
    CONTENT = "content"  # a virus, an attachment, a header
    TOO_BIG = "too_big"
    RATE = "rate"  # too much, too fast, or too many at once
    TEMPORARY = "temporary"  # greylisting, trouble of the server or of the network
    RELAY_DENIED = "relay_denied"  # the server is not there for this recipient's domain
    OUR_CONFIG = "our_config"  # our login, our TLS, our sender address after MAIL
    PROTOCOL = "protocol"  # the dialogue, or the form of an address, is not understood
    EXPIRED = "expired"  # a server on the way has given up
    UNDETERMINED = "undetermined"


class Reply(BaseModel):
    """What an SMTP server answered, and at which stage."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: Stage
    code: int = Field(
        ge=0, le=MAX_CODE, description="RFC 5321 4.2; 0 when there was no reply at all"
    )
    enhanced: str | None = Field(
        None, max_length=MAX_ENHANCED_CHARS, description="RFC 3463, such as 5.1.1"
    )
    text: str = Field("", max_length=MAX_REPLY_CHARS)


class Outcome(Event):
    """What became of one message for one recipient at one attempt."""

    email_id: Id
    category: Category
    recipient: ShortText
    attempt: Attempt
    reply: Reply | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will be said of this message for this recipient."""
        return True


class NotAccepted(Outcome):
    """What became of a message that no server took for sure, and why."""

    reply_class: ReplyClass | None = Field(None, description="Absent where there is no reply")
    rule: str | None = Field(
        None, max_length=MAX_RULE_CHARS, description="What says so: a rule @ the version of its set"
    )


class EmailDelivered(Outcome):
    """Signals that the relay took responsibility: 250 to the final dot."""

    keys = ("email.delivered",)


class EmailDeferred(NotAccepted):
    """Signals a temporary failure; the message comes back after about `retry_after` seconds."""

    keys = ("email.deferred",)

    retry_after: Seconds

    @property
    def final(self) -> bool:
        """A deferred message is still under way."""
        return False


class EmailBounced(NotAccepted):
    """Signals that the recipient was refused for good."""

    keys = ("email.bounced",)

    reply_class: ReplyClass


class EmailFailed(NotAccepted):
    """Signals that the message cannot be sent, for a reason that is not the recipient's."""

    keys = ("email.failed",)

    reason: str = Field(max_length=MAX_REASON_CHARS)


class EmailExpired(NotAccepted):
    """Signals that the message was given up: too old, out of `retries` or past its `expires_at`."""

    keys = ("email.expired",)


class EmailUncertain(NotAccepted):
    """Signals that it may have been accepted: the answer was lost, or who waited for it died."""

    keys = ("email.uncertain",)

    retry_after: Seconds | None = Field(None, description="Absent when it is not tried again")

    @property
    def final(self) -> bool:
        """Final when the message is held rather than tried again."""
        return self.retry_after is None
