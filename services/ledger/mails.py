"""Pure: what is kept of a mail and of an outcome, and which outcome of a recipient counts.

A mail's number begins with its time of acceptance, so that numbers are in the order of acceptance.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from shared.contracts import (
    AcceptedEmail,
    Category,
    EmailRescheduled,
    EmailStatus,
    EmailUncertain,
    Outcome,
    Reply,
    ReplyClass,
    Report,
    ReportComplained,
    ReportKind,
    address,
)
from shared.contracts.fields import EPOCH, ID
from shared.return_path import mail_key

# The names of the numbers in the tables; new ones only at the end.
STATUSES = tuple(EmailStatus)
CATEGORIES = tuple(Category)
WAITING, DEFERRED = STATUSES.index(EmailStatus.WAITING), STATUSES.index(EmailStatus.DEFERRED)
_BOUNCED = STATUSES.index(EmailStatus.BOUNCED)
# The numbers of reports, in the place of outcomes; new ones only at the end.
_FIRST_REPORT = 100
_REPORTS = (
    ReportKind.BOUNCED,  # the only one that counts
    ReportKind.DELAYED,
    ReportKind.DELIVERED,
    ReportKind.COMPLAINED,
)
_STATUS_OF_REPORT = {
    ReportKind.BOUNCED: _BOUNCED,
    ReportKind.DELAYED: DEFERRED,
    ReportKind.DELIVERED: STATUSES.index(EmailStatus.DELIVERED),
    ReportKind.COMPLAINED: STATUSES.index(EmailStatus.DELIVERED),
}
_ENDED = tuple(status.ended for status in STATUSES)  # read for each outcome
FORGOTTEN = "forgotten"  # a dimension of the sums: the ended recipients that were forgotten
NUMBER_BITS = 20  # of a number, below its milliseconds; 43 bits of these last until 2248
HOUR_MILLISECONDS = 3_600_000
DAY_MILLISECONDS = 24 * HOUR_MILLISECONDS
# Of a permanent refusal: the next mail to this address will be refused too.
_PERMANENT = frozenset({ReplyClass.MAILBOX_UNKNOWN, ReplyClass.MAILBOX_DISABLED, ReplyClass.DOMAIN})
_MESSAGE_ID = re.compile(r"<([A-Za-z0-9._=-]+)@[^@<>\s]+>")
_ID = re.compile(ID)
_MILLISECOND = timedelta(milliseconds=1)
_STATUS_BY_KEY = {
    f"email.{status}": number for number, status in enumerate(STATUSES) if status != "waiting"
}
_DETAILS = ("reply_class", "reason", "origin", "retry_after", "message_id", "source", "reporter")


class Retention(NamedTuple):
    """The days for which rows are kept."""

    message_days: int
    history_days: int
    total_days: int


class Acceptance(NamedTuple):
    """The facts that a command states about its mail, in the types of the database.

    `accepted_at` is None if the command does not say when it was accepted.
    """

    key: bytes
    email_id: str
    client: str
    category: int
    accepted_at: int | None
    expires_at: int | None
    recipients: tuple[str, ...]
    sender: str | None
    subject: str | None
    list_id: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, str]
    size_bytes: int
    scheduled_at: int | None
    message_id: str | None = None  # that its client has chosen


class Rescheduling(NamedTuple):
    """The time of a mail for later, and when it was set; 0 for that of its command."""

    key: bytes
    scheduled_at: int
    set_at: int


class RecordedOutcome(NamedTuple):
    """An outcome of a mail for one recipient; while it waits, the outcome of attempt 0.

    A report is one too, of attempt 1: it does not say which attempt it is about. A bounce that
    counts has the number of the latest attempt known, so that no attempt is missing.
    """

    recipient: str
    attempt: int
    outcome: int  # the event, as a number of STATUSES, or that of a report
    status: int  # that the recipient has by it
    at: int
    detail: str


class EarlyOutcome(NamedTuple):
    """An outcome and the key of its mail."""

    key: bytes
    outcome: RecordedOutcome


def acceptance(command: AcceptedEmail) -> Acceptance:
    """Return what is kept of a command.

    The subject of a mail with a code is not: the code may be in it.
    """
    has_code = command.category is Category.OTP
    return Acceptance(
        mail_key(command.id, command.client),
        command.id,
        command.client or "",
        CATEGORIES.index(command.category),
        _milliseconds(command.accepted_at or command.created_at),
        _milliseconds(command.expires_at),
        command.recipients,
        command.from_,
        None if has_code else command.subject,
        command.list_id,
        {tag.name: tag.value for tag in command.tags},
        dict(command.metadata),
        command.size_bytes,
        _milliseconds(command.scheduled_at),
        command.message_id if id_of_message(command.message_id or "") != command.id else None,
    )


def rescheduling(event: EmailRescheduled) -> Rescheduling:
    """Return what is kept of a change of time; the latest one counts, in whatever order."""
    key = mail_key(event.email_id, event.client)
    return Rescheduling(key, milliseconds(event.scheduled_at), milliseconds(event.at))


def early_outcome(event: Outcome) -> EarlyOutcome:
    """Return what is kept of an outcome."""
    outcome = status = _STATUS_BY_KEY[event.routing_key]
    if isinstance(event, EmailUncertain) and not event.final:
        status = DEFERRED
    recorded = RecordedOutcome(
        event.recipient, event.attempt, outcome, status, milliseconds(event.at), _detail(event)
    )
    return EarlyOutcome(mail_key(event.email_id, event.client), recorded)


def reported(event: Report) -> EarlyOutcome:
    """Return what is kept of a report."""
    kind = event.kind
    found = _present(event, _DETAILS)
    if isinstance(event, ReportComplained):
        found["reason"] = event.feedback_type
    number, at = _FIRST_REPORT + _REPORTS.index(kind), milliseconds(event.at)
    detail = _with_reply(event, found)
    recorded = RecordedOutcome(event.recipient, 1, number, _STATUS_OF_REPORT[kind], at, detail)
    return EarlyOutcome(mail_key(event.email_id, event.client), recorded)


def report_kind(outcome: RecordedOutcome) -> ReportKind | None:
    """Return the kind of a report, None for an outcome of the sender."""
    number = outcome.outcome - _FIRST_REPORT
    return _REPORTS[number] if number >= 0 else None


def is_remark(outcome: RecordedOutcome) -> bool:
    """Return whether an outcome never counts: a report that changes no state."""
    return outcome.outcome > _FIRST_REPORT


def joined(counting: RecordedOutcome, other: RecordedOutcome) -> RecordedOutcome:
    """Return the outcome that counts, a report with the number of the latest attempt."""
    if counting.outcome < _FIRST_REPORT or other.attempt <= counting.attempt:
        return counting
    return counting._replace(attempt=other.attempt)


def waiting(recipient: str) -> RecordedOutcome:
    """Return the state of a recipient without an outcome."""
    return RecordedOutcome(recipient, 0, WAITING, WAITING, 0, "{}")


def rank(outcome: RecordedOutcome) -> tuple[int, int, int, int]:
    """Return the rank of an outcome among those of its mail and recipient; the highest counts.

    A report that the mail bounced is above all that the relay has said. Else it is the first final
    one by its own time, as the sender's store has it; else that of the latest attempt. So the order
    in which outcomes come changes nothing. Copies of one outcome, whose sender was killed before it
    kept it, may differ in their times.
    """
    if outcome.outcome >= _FIRST_REPORT:
        return 3, -outcome.at, 0, outcome.outcome
    if _ENDED[outcome.status]:
        return 2, -outcome.at, -outcome.attempt, outcome.outcome
    if outcome.status == WAITING:
        return 0, 0, 0, 0
    return 1, outcome.attempt, -outcome.at, outcome.outcome


def is_copy(one: RecordedOutcome, other: RecordedOutcome) -> bool:
    """Return whether two outcomes of one mail and recipient are copies of one event.

    The id of an event follows from these too, see `services.sender.outcome`.
    """
    same_attempt = one.attempt == other.attempt or one.outcome >= _FIRST_REPORT
    return same_attempt and one.outcome == other.outcome


def count_name(outcome: RecordedOutcome) -> str:
    """Return the name of the sum that a recipient with this outcome belongs to."""
    if not _ENDED[outcome.status]:
        return EmailStatus.WAITING
    if outcome.status != _BOUNCED:
        return STATUSES[outcome.status]
    return f"bounced_{_permanence(orjson.loads(outcome.detail).get('reply_class'))}"


def labels(tags: Mapping[str, str]) -> Iterator[str]:
    """Yield the labels under which a mail with these tags is listed and counted."""
    for name, value in tags.items():
        yield name
        yield f"{name}:{value}"


def slices(tags: Mapping[str, str], recipient: str) -> Iterator[tuple[str, str]]:
    """Yield the dimensions, with a value of each, in which a recipient is counted."""
    yield "", ""
    yield "domain", address.domain_of(recipient)
    for label in labels(tags):
        yield "tag", label


def id_of_message(message_id: str) -> str | None:
    """Return the id of a mail in a Message-ID that the sender has made, None if it is another.

    See `services.sender.mail.compose.message_id`.
    """
    found = _MESSAGE_ID.fullmatch(message_id)
    email_id = found[1].replace("=2E", ".") if found else ""
    return email_id if _ID.fullmatch(email_id) else None


def first_number(at: int) -> int:
    """Return the smallest number of a mail that was accepted at this time, in milliseconds."""
    return at << NUMBER_BITS


def accepted_at(number: int) -> int:
    """Return the time of acceptance of a mail, in milliseconds."""
    return number >> NUMBER_BITS


def milliseconds(at: datetime) -> int:
    """Return a time in milliseconds since 1970."""
    return (at - EPOCH) // _MILLISECOND


def moment(at: int) -> datetime:
    """Return the time of so many milliseconds since 1970."""
    return EPOCH + at * _MILLISECOND


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else milliseconds(at)


def _permanence(reply_class: str | None) -> str:
    if reply_class is None or reply_class == ReplyClass.UNDETERMINED:
        return "undetermined"
    return "permanent" if reply_class in _PERMANENT else "transient"


def _detail(event: Outcome) -> str:
    """Return the reply and the reasons as JSON, without what is absent."""
    return _with_reply(event, _present(event, _DETAILS))


def _with_reply(event: Outcome | Report, found: dict[str, Any]) -> str:
    reply: Reply | None = getattr(event, "reply", None)  # a complaint has none
    if reply is not None:
        found["reply"] = _present(reply, Reply.model_fields)
    return orjson.dumps(found).decode()


def _present(model: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    """Return the fields of these names that have a value; a fifth of the cost of a dump."""
    values = model.__dict__
    return {name: value for name in names if (value := values.get(name)) is not None}
