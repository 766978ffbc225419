"""Pure: many observations, added up for each domain."""

from collections.abc import Container, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from services.classifier.evidence import Observation
from services.classifier.order import in_order
from shared.contracts import Kind, ReplyClass

# Read for each event, and an enumeration is slow to give them.
_DELIVERED, _BOUNCED = Kind.DELIVERED.value, Kind.BOUNCED.value
_UNDETERMINED = ReplyClass.UNDETERMINED.value


class Sum:
    """What some observations add to one domain. `key` is that of one of them."""

    __slots__ = (
        *("first", "last", "key", "delivered", "bounced", "refused", "undetermined"),
        "taken_back",
    )

    def __init__(self, at: int) -> None:
        self.first = self.last = at  # milliseconds since 1970
        self.key: str | None = None
        self.delivered = self.bounced = self.refused = self.undetermined = self.taken_back = 0

    @property
    def events(self) -> int:
        """How many were counted."""
        return self.delivered + self.bounced + self.refused + self.taken_back


_ROW = attrgetter(
    *("first", "last", "delivered", "bounced", "refused", "undetermined", "taken_back")
)


class Tally:
    """What some observations add to all domains; `keys` and `names` are those of them, in order.

    When an event came counts for its copies too: a client that repeats one may well tell another
    time, and which of the copies came first must not matter.
    """

    def __init__(self, known: Container[str] = ()) -> None:
        self._known = known
        self._counted: set[str] = set()
        self.observations: list[Observation] = []
        self.domains: dict[str, Sum] = {}
        self.refusals: dict[tuple[str, str], int] = {}
        self.keys: list[str] = []
        self.names: list[str] = []

    @classmethod
    def of(cls, observations: Iterable[Observation], known: Container[str] = ()) -> "Tally":
        """Add up those whose keys are not `known`, each key once."""
        tally = cls(known)
        tally.add(observations)
        for _ in tally.arrange():
            pass
        return tally

    def add(self, observations: Iterable[Observation]) -> None:
        """Add up some more."""
        for each in observations:
            self.observations.append(each)
            total = self.domains.get(each.domain)
            if total is None:
                total = self.domains[each.domain] = Sum(each.at)
            elif each.at < total.first:
                total.first = each.at
            elif each.at > total.last:
                total.last = each.at
            if each.key not in self._counted and each.key not in self._known:
                self._counted.add(each.key)
                self._count(total, each)

    def arrange(self) -> Iterator[None]:
        """Put keys and names in order, when all is added; goes on in less than a millisecond."""
        for run in in_order(self._counted):
            self.keys += run
            yield
        for run in in_order(self.domains):
            self.names += run
            yield

    def rows(self, names: Iterable[str]) -> Sequence[Sequence[Any]]:
        """Give what is added to some domains, as the database takes it."""
        return [(name, *_ROW(self.domains[name])) for name in names]

    def _count(self, total: Sum, each: Observation) -> None:
        total.key = each.key
        if each.said == _DELIVERED:
            total.delivered += 1
        elif each.said == _BOUNCED:
            total.bounced += 1
        else:
            total.refused += 1
            total.undetermined += each.said == _UNDETERMINED
            refusal = each.domain, each.said
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
