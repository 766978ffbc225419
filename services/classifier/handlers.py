"""What the classifier does with each message."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.classifier.evidence import (
    Change,
    Evidence,
    Feedback,
    Observation,
    Outcome,
    Rule,
    observe,
)
from shared.contracts import (
    Contract,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    EmailBounced,
    EmailDelivered,
    FeedbackBounced,
    FeedbackDelivered,
)
from shared.errors import Reject

_IDS = uuid.UUID("9c3c1f57-52bb-5c0a-9d43-6a1c5c1f0d52")  # a name space of our own (RFC 9562 5.5)


class Domains(Protocol):
    """Where the evidence is kept."""

    async def count(self, observation: Observation) -> Change | None:
        """Count an observation once; give the change it made, at every copy again."""

    async def evidence(self, domain: str) -> Evidence:
        """Give the evidence on a domain."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """The handlers. Each is safe to run twice: an event's id and its effect are one transaction.

    A change of verdict is announced at every copy of the event that made it, with the same id.
    """

    domains: Domains
    rule: Rule

    async def on_email_delivered(self, event: EmailDelivered) -> Sequence[Contract]:
        """Count a delivery of our own."""
        return await self._count(event)

    async def on_email_bounced(self, event: EmailBounced) -> Sequence[Contract]:
        """Count a bounce of our own, if it says that the mailbox is unknown."""
        return await self._count(event)

    async def on_feedback_delivered(self, event: FeedbackDelivered) -> Sequence[Contract]:
        """Count a delivery that somebody reports."""
        return await self._count(event)

    async def on_feedback_bounced(self, event: FeedbackBounced) -> Sequence[Contract]:
        """Count a bounce that somebody reports."""
        return await self._count(event)

    async def on_describe_domain(self, question: DescribeDomain) -> Sequence[Contract]:
        """Answer with the evidence on a domain. Changes nothing."""
        evidence = await self.domains.evidence(question.domain)
        return [
            DomainDescribed(
                id=question.id,
                domain=question.domain,
                status=self.rule.verdict(evidence),
                delivered=evidence.delivered,
                bounced=evidence.bounced,
            )
        ]

    async def _count(self, event: Outcome | Feedback) -> Sequence[Contract]:
        try:
            observation = observe(event)
        except ValueError as error:
            raise Reject(f"the recipient's domain {error}") from error
        change = observation and await self.domains.count(observation)
        return [_classified(change)] if change else []


def _classified(change: Change) -> DomainClassified:
    return DomainClassified(
        id=str(uuid.uuid5(_IDS, f"domain.classified/{change.event_id}")),
        at=change.at,
        domain=change.domain,
        status=change.status,
    )
