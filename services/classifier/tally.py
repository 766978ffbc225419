"""Pure: many observations, added up for each domain."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from services.classifier.evidence import Observation
from shared.contracts import Kind, ReplyClass


@dataclass(slots=True)
class Sum:
    """What some observations add to one domain. `key` is that of one of them."""

    first: int  # milliseconds since 1970
    last: int
    key: str | None = None
    delivered: int = 0
    bounced: int = 0
    refused: int = 0
    undetermined: int = 0
    taken_back: int = 0

    @property
    def events(self) -> int:
        """How many were counted."""
        return self.delivered + self.bounced + self.refused + self.taken_back

    @property
    def row(self) -> tuple[int, ...]:
        """Give it as the database adds it."""
        return (
            *(self.first, self.last, self.delivered, self.bounced),
            *(self.refused, self.undetermined, self.taken_back),
        )

    def add(self, each: Observation) -> None:
        """Count one more."""
        self.key = each.key
        if each.said == Kind.DELIVERED:
            self.delivered += 1
        elif each.said == Kind.BOUNCED:
            self.bounced += 1
        else:
            self.refused += 1
            self.undetermined += each.said == ReplyClass.UNDETERMINED


@dataclass(slots=True)
class Tally:
    """What some observations add to all domains."""

    domains: dict[str, Sum] = field(default_factory=dict)
    refusals: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, observations: Iterable[Observation], fresh: AbstractSet[str] | None) -> "Tally":
        """Add up those whose keys are `fresh`, all for None, each key once.

        When an event came counts for its copies too: a client that repeats one may well tell
        another time, and which of the copies came first must not matter.
        """
        tally, counted = cls(), set[str]()
        for each in observations:
            total = tally._seen(each)
            if each.key not in counted and (fresh is None or each.key in fresh):
                counted.add(each.key)
                tally._count(total, each)
        return tally

    def _seen(self, each: Observation) -> Sum:
        total = self.domains.get(each.domain)
        if total is None:
            total = self.domains[each.domain] = Sum(each.at, each.at)
        elif each.at < total.first:
            total.first = each.at
        elif each.at > total.last:
            total.last = each.at
        return total

    def _count(self, total: Sum, each: Observation) -> None:
        total.add(each)
        if each.said not in (Kind.DELIVERED, Kind.BOUNCED):
            refusal = each.domain, each.said
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
