"""Pure: answers about mails and sums, made of the rows of the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from services.ledger.changes import COUNTS
from services.ledger.mails import (
    CATEGORIES,
    HOUR_MILLISECONDS,
    STATUSES,
    WAITING,
    RecordedOutcome,
    accepted_at,
    is_copy,
    moment,
    report_kind,
)
from shared.contracts import (
    EmailCounts,
    EmailRecord,
    HistoryEntry,
    MailReference,
    RecipientStatus,
    Reply,
    ReplyClass,
    ReportSource,
    Stage,
)
from shared.contracts.fields import EPOCH, Tag
from shared.contracts.ledger import MAX_HISTORY
from shared.return_path import address_hash

HOUR = timedelta(hours=1)


class MessageRow(NamedTuple):
    """A row of `messages`."""

    number: int
    email_id: str
    client: str
    category: int
    sender: str | None
    subject: str | None
    list_id: str | None
    tags: str | None
    metadata: str | None
    size_bytes: int
    expires_at: int | None


class KeptMail(NamedTuple):
    """A mail with the outcomes of its recipients that count, and those that do not any more."""

    message: MessageRow
    recipients: Sequence[RecordedOutcome]
    earlier: Sequence[RecordedOutcome] = ()
    scheduled_at: int | None = None


def record(mail: KeptMail) -> EmailRecord:
    """Return the facts of a mail, unchecked: they were checked when they were recorded."""
    message, details = mail.message, [orjson.loads(each.detail) for each in mail.recipients]
    return EmailRecord.model_construct(
        email_id=message.email_id,
        client=message.client or None,
        category=CATEGORIES[message.category],
        from_=message.sender,
        subject=message.subject,
        list_id=message.list_id,
        tags=orjson.loads(message.tags or "{}"),
        metadata=orjson.loads(message.metadata or "{}"),
        size_bytes=message.size_bytes,
        message_id=next((it["message_id"] for it in details if "message_id" in it), None),
        accepted_at=moment(accepted_at(message.number)),
        expires_at=_moment(message.expires_at),
        scheduled_at=_moment(mail.scheduled_at),
        recipients=tuple(map(_status, mail.recipients, details)),
    )


def reference(mail: KeptMail, address: int | None, message_id: str | None) -> MailReference | None:
    """Return a mail and one of its recipients: that of the hash `address`, else its only one.

    Return None if there is none, and if the Message-ID of the mail is known to be another.
    """
    names = [each.recipient for each in mail.recipients]
    if address is not None:
        names = [name for name in names if address_hash(name) == address]
    email = record(mail)
    is_other = message_id is not None and email.message_id not in {None, message_id}
    if len(names) != 1 or is_other:
        return None
    return MailReference(
        email_id=email.email_id,
        category=email.category,
        client=email.client,
        message_id=email.message_id,
        recipient=names[0],
        tags=tuple(Tag(name=name, value=value) for name, value in email.tags.items()),
        metadata=email.metadata,
    )


def history(mail: KeptMail) -> Sequence[HistoryEntry]:
    """Return the outcomes of a mail, the oldest first; the newest ones if there are too many."""
    present = {each.recipient: each for each in mail.recipients}
    earlier = (
        each
        for each in mail.earlier
        if each.recipient not in present or not is_copy(each, present[each.recipient])
    )
    outcomes = (each for each in chain(earlier, mail.recipients) if each.status != WAITING)
    ordered = sorted(outcomes, key=lambda each: (each.at, each.attempt, each.recipient))
    return [
        _entry(each, orjson.loads(each.detail), present.get(each.recipient, each))
        for each in ordered[-MAX_HISTORY:]
    ]


def period_counts(since: datetime, sums: Sequence[int]) -> EmailCounts:
    """Return the sums of a period, in the order of COUNTS."""
    named: Mapping[str, Any] = dict(zip(COUNTS, sums, strict=True))
    return EmailCounts.model_construct(since=since, accepted=sum(sums), **named)


def total(since: datetime, rows: Iterable[Sequence[int]]) -> EmailCounts:
    """Return the sums over all hours; a row has the hour, since 1970, and its sums."""
    nothing = (0,) * len(COUNTS)
    columns = zip(nothing, *(sums for _, *sums in rows), strict=True)
    return period_counts(since, [sum(column) for column in columns])


def by_hour(rows: Iterable[Sequence[int]]) -> Sequence[EmailCounts]:
    """Return the sums of each hour."""
    return [period_counts(hour_moment(hour), sums) for hour, *sums in rows]


def by_day(rows: Iterable[Sequence[int]], zone: ZoneInfo) -> Sequence[EmailCounts]:
    """Return the sums of each day of a time zone; an hour belongs to the day in which it begins."""
    days: Mapping[date, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for hour, *sums in rows:
        day = days[hour_moment(hour).astimezone(zone).date()]
        day[:] = map(int.__add__, day, sums)
    return [period_counts(_first_hour(day, zone), sums) for day, sums in sorted(days.items())]


def cursor(number: int) -> str:
    """Return the number that a page goes on below as a text that means nothing to its reader."""
    return f"{number:016x}"


def hour_moment(hour: int) -> datetime:
    """Return the beginning of an hour since 1970."""
    return moment(hour * HOUR_MILLISECONDS)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def _first_hour(day: date, zone: ZoneInfo) -> datetime:
    """Return the first full hour of UTC in a day of a time zone."""
    midnight = datetime.combine(day, time(), zone).astimezone(UTC)
    return midnight + (EPOCH - midnight) % HOUR


def _status(outcome: RecordedOutcome, detail: Mapping[str, Any]) -> RecipientStatus:
    return RecipientStatus.model_construct(
        recipient=outcome.recipient,
        status=STATUSES[outcome.status],
        attempts=outcome.attempt,
        at=moment(outcome.at) if outcome.status != WAITING else None,
        **_reasons(detail),
    )


def _entry(
    outcome: RecordedOutcome, detail: Mapping[str, Any], present: RecordedOutcome
) -> HistoryEntry:
    report = report_kind(outcome)
    return HistoryEntry.model_construct(
        recipient=outcome.recipient,
        # An uncertain outcome that is tried again was uncertain, and the mail is deferred.
        status=STATUSES[outcome.outcome if report is None else outcome.status],
        attempt=outcome.attempt if report is None else max(present.attempt, 1),
        at=moment(outcome.at),
        retry_after=detail.get("retry_after"),
        report=report,
        source=ReportSource(detail["source"]) if "source" in detail else None,
        reporter=detail.get("reporter"),
        **_reasons(detail),
    )


def _reasons(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    reply, reply_class = detail.get("reply"), detail.get("reply_class")
    origin, reason = detail.get("origin"), detail.get("reason")
    return {
        "reply": reply and Reply.model_construct(**reply | {"stage": Stage(reply["stage"])}),
        "reply_class": reply_class and ReplyClass(reply_class),
        "reason": ": ".join(filter(None, (origin, reason))) or None,
    }
