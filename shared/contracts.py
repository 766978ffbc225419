"""Every message that crosses a queue: frozen models with their routing keys; encode and decode.

The wire form is JSON; unknown fields are ignored on read, so that fields can be added freely. A
change that an old reader would misunderstand is a new message with a new key.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared import address, header
from shared.attachment import Attachments
from shared.errors import Undecodable
from shared.fields import (
    MAX_RECIPIENTS,
    Address,
    Domain,
    Id,
    Mailbox,
    Mailboxes,
    Seconds,
    Subject,
    Text,
)


class Category(StrEnum):
    """The three sending classes; each has a queue and SMTP connections of its own."""

    OTP = "otp"
    TRANSACTIONAL = "transactional"
    BULK = "bulk"


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
    AUTH_SENDER = "auth_sender"  # SPF, DKIM, DMARC, reverse DNS, the name in EHLO
    CONTENT = "content"  # a virus, an attachment, a header
    TOO_BIG = "too_big"
    RATE = "rate"  # too much, too fast, or too many at once
    TEMPORARY = "temporary"  # greylisting, trouble of the server or of the network
    RELAY_DENIED = "relay_denied"  # the server is not there for this recipient's domain
    OUR_CONFIG = "our_config"  # our sender address, our login, our TLS
    PROTOCOL = "protocol"  # the dialogue, or the form of an address, is not understood
    EXPIRED = "expired"  # a server on the way has given up
    UNDETERMINED = "undetermined"


class Verdict(StrEnum):
    """What the evidence says of a recipient domain."""

    CATCH_ALL = "catch-all"
    NOT_CATCH_ALL = "not-catch-all"
    UNKNOWN = "unknown"


class Contract(BaseModel):
    """One message: its fields, and as class variables the routing keys it may travel under."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    keys: ClassVar[tuple[str, ...]]
    must_arrive: ClassVar[bool] = True  # refused unless a queue takes it

    id: Id = Field(description="The same for every copy of this message; consumers count it once")

    @property
    def routing_key(self) -> str:
        """The key of this very message, which is also its AMQP type."""
        return self.keys[0]


class Command(Contract):
    """Asks one service to do something; published to `mail.commands`, refused if nobody would."""


class Question(Contract):
    """Asks one service for an answer; published to `mail.commands`, forgotten after a deadline."""


class Event(Contract):
    """States a fact; published to `mail.events` for whoever binds, perhaps nobody."""

    must_arrive = False

    at: AwareDatetime = Field(description="When it happened")


class Answer(Contract):
    """Answers a question; goes to the asker alone."""


class SendEmail(Command):
    """Asks the sender to deliver one message to each of its recipients."""

    keys = ("email.send.otp", "email.send.transactional", "email.send.bulk")

    category: Category = Category.TRANSACTIONAL
    from_: Mailbox | None = Field(None, alias="from", description="The sender's default if absent")
    to: Mailboxes = Field(min_length=1)
    cc: Mailboxes = ()
    bcc: Mailboxes = ()
    reply_to: Mailbox | None = None
    subject: Subject
    text: Text | None = Field(None, repr=False)
    html: Text | None = Field(None, repr=False)
    sealed: str | None = Field(None, repr=False, description="Content only the sender can open")
    attachments: Attachments = Field((), repr=False)
    headers: header.Headers = Field(default_factory=dict, description="List-*, X-* and a few more")
    client: Id | None = None
    created_at: AwareDatetime | None = Field(None, description="When it was accepted")
    expires_at: AwareDatetime | None = Field(None, description="Not to be sent from then on")
    retries: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Further attempts at most; the class's schedule alone if absent"
    )
    attempt: Annotated[int, Field(ge=1)] = 1
    pending: tuple[Address, ...] | None = Field(None, description="Who is left; everyone if absent")

    @property
    def routing_key(self) -> str:
        """One key a category, so that each has a queue of its own."""
        return f"email.send.{self.category}"

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope's recipients of this attempt: each address once."""
        if self.pending is not None:
            return self.pending
        everyone = (*self.to, *self.cc, *self.bcc)
        return tuple(dict.fromkeys(map(address.bare_address, everyone)))

    @model_validator(mode="after")
    def _has_content_and_room(self) -> Self:
        if self.text is None and self.html is None and self.sealed is None:
            raise ValueError("must have a text or an html part")
        if len(self.to) + len(self.cc) + len(self.bcc) > MAX_RECIPIENTS:
            raise ValueError(f"must have at most {MAX_RECIPIENTS} recipients")
        if self.category is Category.OTP and header.UNSUBSCRIBE in self.headers:
            raise ValueError("must not offer to unsubscribe from a code")
        return self


class Reply(BaseModel):
    """What an SMTP server answered, and at which stage."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: Stage
    code: int = Field(description="RFC 5321 4.2; 0 when there was no reply at all")
    enhanced: str | None = Field(None, description="RFC 3463, such as 5.1.1")
    text: str = ""


class Outcome(Event):
    """What became of one message for one recipient at one attempt."""

    email_id: Id
    category: Category
    recipient: str
    attempt: int
    reply: Reply | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will be said of this message for this recipient."""
        return True


class NotAccepted(Outcome):
    """What became of a message that no server took for sure, and why."""

    reply_class: ReplyClass | None = Field(None, description="Absent where there is no reply")
    rule: str | None = Field(None, description="What says so: a rule @ the version of its set")


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

    reason: str


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


class IssueCode(Command):
    """Asks for a one-time code to be mailed to an address."""

    keys = ("code.issue",)

    email: Address
    client: Id | None = None


class VerifyCode(Question):
    """Asks whether a code is right; a right one is used up by it.

    The same `id` asked again gets the same answer, so that a lost answer can be asked for again.
    """

    keys = ("code.verify",)

    email: Address
    code: str = Field(max_length=64, repr=False)
    client: Id | None = None


class CodeIssued(Event):
    """Signals that a code is on its way by mail."""

    keys = ("code.issued",)

    challenge_id: Id
    email: str
    expires_at: AwareDatetime


class CodeVerified(Event):
    """Signals that a code was right and is used up."""

    keys = ("code.verified",)

    challenge_id: Id
    email: str


class CodeRefused(Event):
    """Signals that a code was not right: wrong, expired, used, exhausted or unknown alike."""

    keys = ("code.refused",)

    email: str


class FeedbackDelivered(Event):
    """Signals that somebody else's mail to a domain was delivered."""

    keys = ("feedback.delivered",)
    must_arrive = True  # its sender was told that it is kept

    domain: Domain
    client: Id | None = None


class FeedbackBounced(Event):
    """Signals that somebody else's mail to a domain bounced: no such mailbox."""

    keys = ("feedback.bounced",)
    must_arrive = True  # its sender was told that it is kept

    domain: Domain
    client: Id | None = None


class DomainClassified(Event):
    """Signals that the verdict on a domain has changed."""

    keys = ("domain.classified",)

    domain: str
    status: Verdict


class DescribeDomain(Question):
    """Asks what is known about a domain."""

    keys = ("domain.describe",)

    domain: Domain


class DomainDescribed(Answer):
    """Answers with the evidence on a domain; one never seen is `unknown`."""

    keys = ("domain.described",)

    domain: str
    status: Verdict
    delivered: int
    bounced: int


CONTRACTS: tuple[type[Contract], ...] = (
    SendEmail,
    EmailDelivered,
    EmailDeferred,
    EmailBounced,
    EmailFailed,
    EmailExpired,
    EmailUncertain,
    IssueCode,
    VerifyCode,
    CodeIssued,
    CodeVerified,
    CodeRefused,
    FeedbackDelivered,
    FeedbackBounced,
    DomainClassified,
    DescribeDomain,
    DomainDescribed,
)
_BY_KEY: Mapping[str, type[Contract]] = {key: each for each in CONTRACTS for key in each.keys}


def encode(message: Contract) -> bytes:
    """Give the wire form: JSON, absent fields left out."""
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode(key: str, body: bytes) -> Contract:
    """Read the contract that `key`, an AMQP type, names.

    Raises Undecodable, whose text never repeats the input: a body may hold what no log may.
    """
    contract = _BY_KEY.get(key)
    if contract is None:
        raise Undecodable(f"no contract has the type {key[:100]!r}")
    try:
        message = contract.model_validate_json(body)
    except ValidationError as error:
        raise Undecodable(mistakes(error)) from None
    if message.routing_key != key:
        raise Undecodable(f"type {key} holds a message of type {message.routing_key}")
    return message


def mistakes(error: ValidationError) -> str:
    """Tell what is wrong, field by field, without the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, mistake['loc'])) or 'body'}: "
        f"{mistake['msg'].removeprefix('Value error, ')}"
        for mistake in found[:10]
    )
