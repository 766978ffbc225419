"""Questions to the ledger about mails, its answers, and the question to cancel a mail."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from shared.contracts.fields import (
    EPOCH,
    MAX_ATTEMPTS,
    MAX_ID_CHARS,
    MAX_RECIPIENTS,
    MAX_SUBJECT_CHARS,
    TEXT_FORM,
    Address,
    Attempt,
    Count,
    Domain,
    Id,
    Moment,
    Seconds,
    ShortText,
    at_most,
    no_control,
)
from shared.contracts.mail import Category
from shared.contracts.message import Answer, Question
from shared.contracts.outcomes import MAX_OUTCOME_BYTES, MAX_REASON_CHARS, Reply, ReplyClass
from shared.contracts.reports import (
    MAX_REPORTER_CHARS,
    MailReference,
    ReportKind,
    ReportSource,
)

STEP = timedelta(hours=1)  # the sums are of the hours of UTC
MAX_HISTORY = 2_000  # entries of one message, the newest
MAX_LISTED_EMAILS = 100  # of a page
MAX_PERIODS = 2_400  # of one answer: 100 days by the hour
# A recipient, with its address and a reply, takes some 2 kB; a message has up to 100.
MAX_EMAIL_BYTES = 8 * 1024 * 1024
MAX_TIMEZONE_CHARS = 64
MAX_NAMED_CLIENTS = 20  # of one id
MAX_LABELS = 50  # tags, or entries of metadata
MAX_LABEL_CHARS = 513  # `name` or `name:value` of a tag

MAIL_KEY_CHARS = 40  # 20 bytes as hex
MAIL_KEY = f"^[0-9a-f]{{{MAIL_KEY_CHARS}}}$"
TAG_LABEL = "^[A-Za-z0-9_-]{1,256}(:[A-Za-z0-9_-]{1,256})?$"
CURSOR_FORM = "^[0-9a-f]{16}$"

PageCursor = Annotated[str, StringConstraints(pattern=CURSOR_FORM, max_length=16)]
TagLabel = Annotated[str, StringConstraints(pattern=TAG_LABEL, max_length=MAX_LABEL_CHARS)]
OWNER_NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"  # the id of a client, or empty for none
OwnerName = Annotated[str, StringConstraints(pattern=OWNER_NAME, max_length=MAX_ID_CHARS)]
Labels = Annotated[dict[ShortText, ShortText], Field(max_length=MAX_LABELS), at_most(MAX_LABELS)]


class EmailStatus(StrEnum):
    """The state of a mail for one recipient."""

    WAITING = "waiting"  # accepted, no attempt yet
    DEFERRED = "deferred"  # there will be another attempt
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    UNCERTAIN = "uncertain"

    @property
    def ended(self) -> bool:
        """Whether no other outcome will follow; a report may still say that it bounced."""
        return self not in {EmailStatus.WAITING, EmailStatus.DEFERRED}


class RecipientStatus(BaseModel):
    """The state of a mail for one recipient, by its final outcome or else its latest one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recipient: Address
    status: EmailStatus
    attempts: int = Field(ge=0, le=MAX_ATTEMPTS, description="How many attempts had an outcome")
    at: Moment | None = Field(None, description="Of the outcome; absent while waiting")
    reply: Reply | None = None
    reply_class: ReplyClass | None = None
    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)


class HistoryEntry(BaseModel):
    """An outcome of a mail for one recipient at one attempt, or a later report about it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recipient: Address
    status: EmailStatus
    attempt: Attempt
    at: Moment
    reply: Reply | None = None
    reply_class: ReplyClass | None = None
    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)
    retry_after: Seconds | None = Field(None, description="The mean wait until the next attempt")
    report: ReportKind | None = Field(
        None, description="Of a report; `status` is then the one that follows from it"
    )
    source: ReportSource | None = Field(None, description="Of a report")
    reporter: str | None = Field(
        None, max_length=MAX_REPORTER_CHARS, description="Of a report: the server that made it"
    )


class EmailRecord(BaseModel):
    """The facts that are kept of a mail: never a body, an attachment or a code."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    email_id: Id
    client: Id | None = None
    category: Category
    from_: ShortText | None = Field(None, alias="from")
    subject: str | None = Field(
        None, max_length=MAX_SUBJECT_CHARS, description="Absent for a mail of the class otp"
    )
    list_id: Id | None = None
    tags: Labels = Field(default_factory=dict)
    metadata: Labels = Field(default_factory=dict)
    size_bytes: Count = Field(description="Of the command, with its content")
    message_id: ShortText | None = Field(
        None, description="The Message-ID header (RFC 5322 3.6.4); absent before the first attempt"
    )
    accepted_at: Moment
    expires_at: Moment | None = None
    scheduled_at: Moment | None = Field(
        None, description="Of a mail for later: the scheduler publishes it at this time"
    )
    recipients: tuple[RecipientStatus, ...] = Field(max_length=MAX_RECIPIENTS)


class DescribeEmail(Question):
    """Asks for the states of a mail and its history."""

    keys = ("email.describe",)

    email_id: Id
    client: OwnerName | None = Field(
        None, description="Of this client alone, empty: of none; of any if absent"
    )


class EmailDescribed(Answer):
    """Answers with a mail and its history, the oldest entry first; with neither if unknown.

    Ids of several clients may be equal. Without a client it then answers with the clients alone.
    """

    keys = ("email.described",)
    max_bytes = MAX_EMAIL_BYTES

    email: EmailRecord | None = None
    history: tuple[HistoryEntry, ...] = Field((), max_length=MAX_HISTORY)
    clients: tuple[OwnerName, ...] = Field(
        (), max_length=MAX_NAMED_CLIENTS, description="Some that have a mail of this id, each"
    )
    forgotten: bool = Field(
        default=False, description="There was a mail of this id, whose recipients were forgotten"
    )


class FindEmail(Question):
    """Asks which mail a report is about: by its return path, its id, or its Message-ID.

    Of a mail with several recipients the report names one. A Message-ID that its client has chosen,
    at the submission door, names a mail only together with the recipient.
    """

    keys = ("email.find",)

    mail_key: str | None = Field(
        None, pattern=MAIL_KEY, max_length=MAIL_KEY_CHARS, description="Of a return path, as hex"
    )
    address_hash: int | None = Field(
        None, ge=-(2**63), le=2**63 - 1, description="Of the recipient of the return path"
    )
    email_id: Id | None = None
    message_id: Annotated[ShortText, AfterValidator(no_control)] | None = None
    recipient: Address | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _names_a_mail(self) -> Self:
        if (self.mail_key is None) is not (self.address_hash is None):
            raise ValueError("must have both keys of a return path")
        if [self.mail_key, self.email_id, self.message_id].count(None) != 2:  # noqa: PLR2004 -- of three
            raise ValueError("must have one of mail_key, email_id and message_id")
        return self


class EmailFound(Answer):
    """Answers with the mail and the recipient; with neither if there is none, or several."""

    keys = ("email.found",)
    max_bytes = MAX_OUTCOME_BYTES

    email: MailReference | None = None


class ListEmails(Question):
    """Asks for a page of mails, the newest first."""

    keys = ("email.list",)

    client: Id | None = Field(None, description="Of this client alone; of any if absent")
    recipient: Address | None = None
    status: EmailStatus | None = Field(
        None, description="Mails with a recipient of this status, whatever the others are"
    )
    category: Category | None = None
    tag: TagLabel | None = Field(None, description="`name`, or `name:value`")
    since: Moment | None = Field(None, description="Accepted at this time or later")
    until: Moment | None = Field(None, description="Accepted before")
    after: PageCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(50, ge=1, le=MAX_LISTED_EMAILS)


class EmailsListed(Answer):
    """Answers with a page of mails, which may have fewer of them than there are."""

    keys = ("email.listed",)
    max_bytes = MAX_EMAIL_BYTES

    emails: tuple[EmailRecord, ...] = Field(max_length=MAX_LISTED_EMAILS)
    next: PageCursor | None = Field(
        None, description="`after` of the next page; absent at the last"
    )


class CountEmails(Question):
    """Asks for sums over mails by the time of their acceptance."""

    keys = ("email.count",)

    client: Id | None = Field(None, description="Of this client alone; of all if absent")
    since: Moment
    until: Moment
    by: Literal["hour", "day"] | None = Field(None, description="One sum over all if absent")
    timezone: str = Field(
        "UTC", pattern=TEXT_FORM, max_length=MAX_TIMEZONE_CHARS, description="Of the days, IANA"
    )
    category: Category | None = None
    tag: TagLabel | None = Field(
        None, description="`name`, or `name:value`; not together with a domain"
    )
    domain: Domain | None = Field(None, description="Of the recipient")
    forgotten: bool = Field(
        default=False, description="Of forgotten recipients alone; without a tag and a domain"
    )


class EmailCounts(BaseModel):
    """Sums over recipients whose mail was accepted in one period.

    Accepted is the sum of all others.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    since: Moment
    accepted: Count = 0
    waiting: Count = Field(0, description="Without a final outcome, the deferred ones included")
    delivered: Count = 0
    bounced_permanent: Count = 0
    bounced_transient: Count = 0
    bounced_undetermined: Count = 0
    failed: Count = 0
    expired: Count = 0
    suppressed: Count = 0
    cancelled: Count = 0
    uncertain: Count = 0


class EmailsCounted(Answer):
    """Answers with the sums of each period that has any, the oldest first."""

    keys = ("email.counted",)
    max_bytes = MAX_EMAIL_BYTES

    periods: tuple[EmailCounts, ...] = Field(max_length=MAX_PERIODS)
    total: EmailCounts


class CancelEmail(Question):
    """Asks the sender not to send a mail any more. Safe to ask again.

    It is kept until the mail comes. Each recipient that no attempt has claimed ends as
    `email.cancelled`, and so may one that an attempt has claimed.
    """

    keys = ("email.cancel",)

    email_id: Id
    client: Id | None = None


class EmailCancelling(Answer):
    """Answers that the cancellation is kept, and counts the recipients by what is known of them.

    All numbers are 0 before the first attempt: then each recipient ends as `email.cancelled`.
    """

    keys = ("email.cancelling",)

    waiting: Count = Field(
        description="Recipients between two attempts: they end as email.cancelled at the next one"
    )
    undecided: Count = Field(
        description="Recipients that an attempt has claimed: it may send to them or cancel them"
    )
    ended: Count = Field(description="Recipients with a final outcome, cancelled ones not included")
    cancelled: Count = Field(description="Recipients that had ended as email.cancelled before")


def whole_steps(begin: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the beginning and the end of a time, widened to whole steps."""
    return begin - (begin - EPOCH) % STEP, next_step(end)


def next_step(moment: datetime) -> datetime:
    """Return the beginning of the first step that does not begin before `moment`."""
    moment = moment.astimezone(UTC)  # else hours would be counted by the clock of the zone
    return moment + (EPOCH - moment) % STEP
