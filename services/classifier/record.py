"""Pure: what is known of a domain, and what is said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from services.classifier.rule import Evidence, Mode, Rule

_NOTHING = Evidence()


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a domain; all of it is nothing for one never seen."""

    domain: str
    evidence: Evidence = _NOTHING
    taken_back: int = 0
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)

    def told(self, rule: Rule) -> dict[str, Any]:
        """Give the fields of a DomainEvidence, judged by `rule`."""
        evidence = rule.mode is Mode.EVIDENCE
        return {
            "domain": self.domain,
            "status": rule.verdict(self.evidence),
            "delivered": self.evidence.delivered,
            "bounced": self.evidence.bounced,
            "since": self.first_event_at,
            "last_event_at": self.last_event_at,
            "reason": rule.reason(self.evidence),
            "refusals": self.refusals,
            "recipients": self.evidence.recipients if evidence else None,
            "taken_back": self.taken_back if evidence else None,
        }


class Totals(NamedTuple):
    """Sums over all domains."""

    unknown: int
    catch_all: int
    not_catch_all: int
    delivered: int
    bounced: int
