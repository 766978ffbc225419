"""Pure: what an event says of which domain."""

from binascii import b2a_base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from shared.contracts import (
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    ReplyClass,
    address,
)

Outcome = EmailDelivered | EmailBounced
Event = Outcome | FeedbackReported

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
KEY_BYTES = 15  # 20 letters; of 10^12 events no two are likely to share one (1 in 10^12)


class Observation(NamedTuple):
    """What one event says of one domain.

    `said` is `delivered`, `bounced`, or the reply class of a refusal that proves nothing. `key`
    is the same for copies of the event alone, `mail` for all that is said of one mail to one
    recipient; None if that cannot be told.
    """

    key: str
    domain: str
    said: str
    at: int  # milliseconds since 1970
    mail: str | None = None
    recipient: str | None = None


def observe(event: Event) -> Iterator[Observation]:
    """Say what an event tells.

    Of our own bounces only "no such mailbox" counts as one: a policy block, a full mailbox or a
    broken relay would be said to a catch-all domain too. Feedback counts as its sender calls it.
    Raises ValueError when the recipient has no domain.
    """
    if isinstance(event, FeedbackReported):
        yield from _sightings(event)
    else:
        yield _own(event)


def latest(event: Event) -> datetime:
    """Return the latest time that an event tells of."""
    if isinstance(event, FeedbackReported):
        return max(each.at for each in event.sightings)
    return event.at


def hashed(*parts: str) -> str:
    """Give a short name for `parts`, of which only the last may have a slash of its own."""
    digest = blake2b("/".join(parts).encode(), digest_size=KEY_BYTES).digest()
    return b2a_base64(digest, newline=False).decode()


def _own(event: Outcome) -> Observation:
    domain = address.check_domain(address.domain_of(event.recipient))
    said = _said(event)
    return Observation(
        # Not the id alone: of two events that share one, which came first would decide.
        hashed("event", event.id, said, event.recipient),
        domain,
        said,
        _moment(event.at),
        f"/{event.email_id}/{domain}/{event.recipient}",
        event.recipient,
    )


def _said(event: Outcome) -> str:
    if isinstance(event, EmailDelivered):
        return Kind.DELIVERED
    if event.reply_class == ReplyClass.MAILBOX_UNKNOWN:
        return Kind.BOUNCED
    return event.reply_class


def _sightings(report: FeedbackReported) -> Iterator[Observation]:
    client = report.client or ""
    for each in report.sightings:
        domain, kind, who = each.domain, each.kind, each.recipient or ""
        mail = f"{client}/{each.email_id}/{domain}/{who}" if each.email_id else None
        # A client may well name what became of one mail by the mail's id, for all its recipients.
        key = hashed("sighting", client, each.id, kind, mail or f"{domain}/{who}")
        yield Observation(key, domain, kind, _moment(each.at), mail, each.recipient)


def _moment(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND
