"""Recipient domains: what is reported of them, and what the evidence says."""

from enum import StrEnum

from shared.contracts.message import Answer, Event, Question
from shared.fields import Domain, Id


class Verdict(StrEnum):
    """What the evidence says of a recipient domain."""

    CATCH_ALL = "catch-all"
    NOT_CATCH_ALL = "not-catch-all"
    UNKNOWN = "unknown"


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
