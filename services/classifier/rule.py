"""Pure: what the evidence on a domain adds up to, and why."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shared.contracts import Verdict


class Mode(StrEnum):
    """How much a domain has to show before it counts as catch-all."""

    COUNTS = "counts"
    EVIDENCE = "evidence"


class Evidence(NamedTuple):
    """What was counted for one domain; the last two matter in the mode `evidence` alone."""

    delivered: int = 0
    bounced: int = 0  # no such mailbox
    undetermined: int = 0  # refusals that may have said so
    recipients: int = 0  # distinct ones delivered to, estimated


@dataclass(frozen=True, slots=True)
class Demand:
    """What the mode `evidence` asks for besides deliveries.

    `recipients` is how many distinct ones there must be, `undetermined` the largest share of
    undetermined refusals in the deliveries: more of them may hide a bounce.
    """

    recipients: int
    undetermined: float


@dataclass(frozen=True, slots=True)
class Rule:
    """When a domain is catch-all: more than `threshold` deliveries, no bounce, and all demands.

    It looks at sums alone, so the order of events has no say.
    """

    threshold: int = 1000
    demand: Demand | None = None

    @property
    def mode(self) -> Mode:
        """The mode that this rule is of."""
        return Mode.COUNTS if self.demand is None else Mode.EVIDENCE

    def verdict(self, evidence: Evidence) -> Verdict:
        """Tell what the evidence says."""
        if evidence.bounced:
            return Verdict.NOT_CATCH_ALL
        if evidence.delivered > self.threshold and not self._missing(evidence):
            return Verdict.CATCH_ALL
        return Verdict.UNKNOWN

    def reason(self, evidence: Evidence) -> str:
        """Name the counts and the rule that decide."""
        verdict = self.verdict(evidence)
        return f"{verdict}: {self._why(evidence)}"

    def __str__(self) -> str:
        """Name the rule: two with one name give the same verdicts."""
        parts = [self.mode, self.threshold]
        if self.demand:
            parts += [self.demand.recipients, self.demand.undetermined]
        return " ".join(map(str, parts))

    def _why(self, evidence: Evidence) -> str:
        if evidence.bounced:
            return f"{evidence.bounced} bounced, and one bounce is enough"
        if evidence.delivered <= self.threshold:
            return f"{evidence.delivered} delivered, not more than {self.threshold}, and no bounce"
        enough = f"{evidence.delivered} delivered, more than {self.threshold}, and no bounce"
        if missing := self._missing(evidence):
            return f"{enough}, but {missing}"
        if self.demand:
            enough += f", to about {evidence.recipients} recipients"
        return enough

    def _missing(self, evidence: Evidence) -> str | None:
        """Say what the mode `evidence` misses, None when it misses nothing."""
        if self.demand is None:
            return None
        if evidence.recipients < self.demand.recipients:
            return f"to about {evidence.recipients} recipients, fewer than {self.demand.recipients}"
        if evidence.undetermined > self.demand.undetermined * evidence.delivered:
            share = f"{self.demand.undetermined:.2%}"
            return f"{evidence.undetermined} undetermined refusals, more than {share} of that"
        return None
