"""Pure: a request of a provider, an event in it, and the report that follows from the event."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol

from services.gateway.api.problem import INVALID_SIGNATURE, MALFORMED, Problem
from shared.contracts import (
    Category,
    MailReference,
    ReplyClass,
    Report,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportKind,
    ReportSource,
    address,
)
from shared.contracts.outcomes import MAX_RULE_CHARS
from shared.contracts.reports import COMPLAINT_TYPES, MAX_REPORTER_CHARS
from shared.replies.quoted import QuotedReply

PROVIDERS = (
    *(ReportSource.SES, ReportSource.SENDGRID, ReportSource.POSTMARK),
    *(ReportSource.MAILGUN, ReportSource.RESEND),
)
MAX_CLOCK_AHEAD = timedelta(minutes=5)
MAX_EVENT_AGE = timedelta(days=30)  # an older time is taken for a mistake
MAX_DIAGNOSTIC_CHARS = 4_000  # a reply is cut at 1,000


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """A request of a provider; the names of its headers have any case."""

    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header, empty if there is none."""
        return self.headers.get(name, "")


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A fact about a mail to a recipient, as a provider states it.

    `diagnostic` is the reply of the recipient's server, or the words of the provider if
    `is_quoted` is false. `category` is the provider's own, and `reply_class` the one that its
    documentation gives it: it counts where no reply says more.
    """

    kind: ReportKind
    message_id: str  # the mail's Message-ID header
    recipient: str  # empty if it is not named
    at: datetime | None = None
    diagnostic: str = ""
    status: str = ""
    host: str = ""  # the recipient's server
    category: str = ""
    reply_class: ReplyClass | None = None
    is_quoted: bool = True
    feedback_type: str = "abuse"


class Provider(Protocol):
    """Reads the requests of one provider."""

    source: ClassVar[ReportSource]

    def read(self, request: ProviderRequest, now: datetime) -> Sequence[ProviderEvent | None]:
        """Return the events of a request, None for each that says nothing of a mail's way.

        Raises Problem for a wrong signature, and for a body of another form.
        """


def report_of(
    event: ProviderEvent, source: ReportSource, mail: MailReference, now: datetime
) -> Report | None:
    """Return the report of an event about a mail; None for a complaint that is none."""
    known = {
        "at": _time_of(event, now),
        "source": source,
        "reporter": event.host[:MAX_REPORTER_CHARS] or None,
    }
    if event.kind is ReportKind.COMPLAINED:
        if event.feedback_type not in COMPLAINT_TYPES:
            return None
        return ReportComplained.about(mail, **known, feedback_type=event.feedback_type)
    quoted = QuotedReply.read(event.diagnostic[:MAX_DIAGNOSTIC_CHARS], event.status)
    of_code = mail.category is Category.OTP
    known["reply"] = quoted.redacted(of_code=of_code) if event.diagnostic else None
    if event.kind is ReportKind.BOUNCED:
        reply_class, rule = class_of(event, quoted, source, mail.recipient)
        return ReportBounced.about(mail, **known, reply_class=reply_class, rule=rule)
    kind = ReportDelayed if event.kind is ReportKind.DELAYED else ReportDelivered
    return kind.about(mail, **known)


def class_of(
    event: ProviderEvent, quoted: QuotedReply, source: ReportSource, recipient: str
) -> tuple[ReplyClass, str | None]:
    """Return the class of a bounce and its rule: by the server's reply, else by the category."""
    has_reply = event.is_quoted and (event.diagnostic or quoted.enhanced)
    found = quoted.classify(recipient, event.host) if has_reply else None
    if event.reply_class and (found is None or found.reply_class is ReplyClass.UNDETERMINED):
        return event.reply_class, f"{source}:{event.category}"[:MAX_RULE_CHARS]
    return found or (ReplyClass.UNDETERMINED, None)


def _time_of(event: ProviderEvent, now: datetime) -> datetime:
    """Return the time of an event, now if it has none that can be right."""
    is_right = event.at is not None and now - MAX_EVENT_AGE <= event.at <= now
    return event.at if event.at is not None and is_right else now


def check_fresh(seconds: str, now: datetime, oldest: timedelta) -> None:
    """Raise Problem unless a signed time in seconds since 1970 is near now."""
    at = moment(seconds)
    if at is None or not -MAX_CLOCK_AHEAD <= now - at <= oldest:
        raise refused("its time is not near")


def refused(reason: str) -> Problem:
    """Return the problem of a request that the provider has not signed; the log has the reason."""
    return Problem(INVALID_SIGNATURE, reason=reason)


def malformed() -> Problem:
    """Return the problem of a body that has another form than the provider documents."""
    return Problem(MALFORMED, "The body is not in the form that the provider documents.")


def part(value: object, *names: str) -> Mapping[str, object]:
    """Return the object at a path of names; empty if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return a text without NUL, which no database of texts holds; of anything else none."""
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def items(value: object) -> Sequence[object]:
    """Return the items of a list, of anything else none."""
    return value if isinstance(value, list) else ()


def mailbox(value: object) -> str:
    """Return the address in a text, with or without a name before it."""
    return address.bare_address(text(value))


def message_id(value: object) -> str:
    """Return a Message-ID in its angle brackets, which some providers leave out."""
    found = text(value)
    return f"<{found}>" if found and not found.startswith("<") else found


def moment(value: object) -> datetime | None:
    """Return a time: in seconds since 1970, or as ISO 8601 writes it with its offset."""
    try:
        if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
            seconds = float(value)
            return datetime.fromtimestamp(seconds, UTC) if math.isfinite(seconds) else None
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
    return found if found is not None and found.tzinfo else None
