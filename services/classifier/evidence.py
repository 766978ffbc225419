"""Pure: what an event says of a domain, and what the evidence adds up to."""

from dataclasses import dataclass
from datetime import datetime

from shared import address
from shared.contracts import (
    EmailBounced,
    EmailDelivered,
    FeedbackBounced,
    FeedbackDelivered,
    ReplyClass,
    Verdict,
)

Outcome = EmailDelivered | EmailBounced
Feedback = FeedbackDelivered | FeedbackBounced


@dataclass(frozen=True, slots=True)
class Evidence:
    """How many messages to a domain were delivered, and how many mailboxes were unknown there."""

    delivered: int = 0
    bounced: int = 0

    def __sub__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.delivered - other.delivered, self.bounced - other.bounced)


DELIVERY = Evidence(delivered=1)
BOUNCE = Evidence(bounced=1)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one event adds to the evidence on one domain."""

    event_id: str
    domain: str
    evidence: Evidence
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """The verdict on a domain that one event has brought about."""

    event_id: str
    domain: str
    status: Verdict
    at: datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """When a domain counts as catch-all: more than `threshold` deliveries and no bounce."""

    threshold: int = 1000

    def verdict(self, evidence: Evidence) -> Verdict:
        """Tell what the evidence says; its order has no say, since only sums are looked at."""
        if evidence.bounced:
            return Verdict.NOT_CATCH_ALL
        return Verdict.CATCH_ALL if evidence.delivered > self.threshold else Verdict.UNKNOWN

    def change(self, before: Evidence, after: Evidence) -> Verdict | None:
        """Give the new verdict, None when it is still the old one."""
        verdict = self.verdict(after)
        return None if verdict == self.verdict(before) else verdict


def observe(event: Outcome | Feedback) -> Observation | None:
    """Say what an event proves, None when it proves nothing.

    Of our own bounces only "no such mailbox" does: a policy block, a full mailbox or a broken
    relay would be said to a catch-all domain too. Feedback counts as its sender calls it. Raises
    ValueError when the recipient has no domain.
    """
    match event:
        case EmailBounced() if event.reply_class != ReplyClass.MAILBOX_UNKNOWN:
            return None
        case EmailDelivered() | EmailBounced():
            domain = address.check_domain(address.domain_of(event.recipient))
        case FeedbackDelivered() | FeedbackBounced():
            domain = event.domain
    delivered = isinstance(event, EmailDelivered | FeedbackDelivered)
    return Observation(event.id, domain, DELIVERY if delivered else BOUNCE, event.at)
