"""Pure: the verdict on a domain, its reason, and the announcement of a change."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from shared.contracts import DomainClassified, Verdict

_IDS = uuid.UUID("9c3c1f57-52bb-5c0a-9d43-6a1c5c1f0d52")  # a name space of our own (RFC 9562 5.5)


class Mode(StrEnum):
    """The kinds of evidence that a catch-all domain needs: counts, or more than that."""

    COUNTS = "counts"
    EVIDENCE = "evidence"


class Evidence(NamedTuple):
    """The counts of one domain; the last two matter in the mode `evidence` alone."""

    delivered: int = 0
    bounced: int = 0  # no such mailbox
    undetermined: int = 0  # refusals that may have meant that
    recipients: int = 0  # distinct recipients of deliveries, estimated


@dataclass(frozen=True, slots=True)
class Requirements:
    """The requirements of the mode `evidence` besides deliveries.

    `recipients` is the least number of distinct recipients, `undetermined` the largest share of
    undetermined refusals in the deliveries: more of them may hide a bounce.
    """

    recipients: int
    undetermined: float


@dataclass(frozen=True, slots=True)
class VerdictRule:
    """A domain is catch-all with more than `threshold` deliveries, no bounce, and `requirements`.

    The rule reads sums alone, so the order of events does not matter.
    """

    threshold: int = 1000
    requirements: Requirements | None = None

    @property
    def mode(self) -> Mode:
        """The mode of this rule."""
        return Mode.COUNTS if self.requirements is None else Mode.EVIDENCE

    def verdict(self, evidence: Evidence) -> Verdict:
        """Return the verdict on a domain with this evidence."""
        if evidence.bounced:
            return Verdict.NOT_CATCH_ALL
        if evidence.delivered > self.threshold and not self._missing(evidence):
            return Verdict.CATCH_ALL
        return Verdict.UNKNOWN

    def reason(self, evidence: Evidence) -> str:
        """Return the counts and the rule that decide."""
        verdict = self.verdict(evidence)
        return f"{verdict}: {self._why(evidence)}"

    def __str__(self) -> str:
        """Return the name of the rule: two rules with one name give the same verdicts."""
        parts = [self.mode, self.threshold]
        if self.requirements:
            parts += [self.requirements.recipients, self.requirements.undetermined]
        return " ".join(map(str, parts))

    def _why(self, evidence: Evidence) -> str:
        if evidence.bounced:
            return f"{evidence.bounced} bounced, and one bounce is enough"
        if evidence.delivered <= self.threshold:
            return f"{evidence.delivered} delivered, not more than {self.threshold}, and no bounce"
        enough = f"{evidence.delivered} delivered, more than {self.threshold}, and no bounce"
        if missing := self._missing(evidence):
            return f"{enough}, but {missing}"
        if self.requirements:
            enough += f", to about {evidence.recipients} recipients"
        return enough

    def _missing(self, evidence: Evidence) -> str | None:
        """Return what the mode `evidence` still requires, None if it is all there."""
        required = self.requirements
        if required is None:
            return None
        if evidence.recipients < required.recipients:
            return f"to about {evidence.recipients} recipients, fewer than {required.recipients}"
        if evidence.undetermined > required.undetermined * evidence.delivered:
            share = f"{required.undetermined:.2%}"
            return f"{evidence.undetermined} undetermined refusals, more than {share} of that"
        return None


class VerdictChange(NamedTuple):
    """A new verdict on a domain and its time; `key` is that of the event that caused it."""

    domain: str
    status: Verdict
    at: datetime
    key: str


def announce(change: VerdictChange) -> DomainClassified:
    """Return the event of a change of verdict, with the same id every time."""
    return DomainClassified(
        id=str(uuid.uuid5(_IDS, f"domain.classified/{change.key}")),
        at=change.at,
        domain=change.domain,
        status=change.status,
    )
