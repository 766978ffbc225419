"""Pure: many observations, added up for each domain."""

from collections.abc import Container, Iterator, Sequence
from operator import itemgetter
from typing import Any

from services.classifier.evidence import Observation
from services.classifier.order import in_order
from shared.contracts import Kind, ReplyClass

# Read for each event, and an enumeration is slow to give them.
_DELIVERED, _BOUNCED = Kind.DELIVERED.value, Kind.BOUNCED.value
_UNDETERMINED = ReplyClass.UNDETERMINED.value


PIECE = 1000  # observations that are let go of at once

# What some observations add to one domain, as the database takes it: a list, since to make anything
# else for each of a million domains costs as much as to add it up. Times are milliseconds since
# 1970.
DOMAIN, FIRST, LAST, DELIVERED, BOUNCED, REFUSED, UNDETERMINED, TAKEN_BACK = range(8)
Sum = list[Any]


def events(total: Sequence[Any]) -> int:
    """Tell how many events a sum has."""
    return int(total[DELIVERED] + total[BOUNCED] + total[REFUSED] + total[TAKEN_BACK])


class Tally:
    """What some observations add to all domains.

    `keys` and `names` are those of them, in order; `events` has the key of one event of a domain.

    When an event came counts for its copies too: a client that repeats one may well tell another
    time, and which of the copies came first must not matter.
    """

    def __init__(self, known: Container[str] = ()) -> None:
        self._known = known
        self._counted: set[str] = set()
        self.observations: list[Observation] = []
        self.domains: dict[str, Sum] = {}
        self.events: dict[str, str] = {}
        self.refusals: dict[tuple[str, str], int] = {}
        self.keys: list[str] = []
        self.names: list[str] = []

    @classmethod
    def of(cls, observations: Sequence[Observation], known: Container[str] = ()) -> "Tally":
        """Add up those whose keys are not `known`, each key once."""
        tally = cls(known)
        tally.add(observations)
        for _ in tally.arrange():
            pass
        return tally

    def add(self, observations: Sequence[Observation]) -> None:
        """Add up some more."""
        self.observations += observations
        for key, domain, said, at, _, _ in observations:
            total = self.domains.get(domain)
            if total is None:
                total = self.domains[domain] = [domain, at, at, 0, 0, 0, 0, 0]
            elif at < total[FIRST]:
                total[FIRST] = at
            elif at > total[LAST]:
                total[LAST] = at
            if key not in self._counted and key not in self._known:
                self._counted.add(key)
                self.events[domain] = key
                self._count(total, said)

    def arrange(self) -> Iterator[None]:
        """Put keys and names in order, when all is added; goes on in less than a millisecond."""
        for run in in_order(self._counted):
            self.keys += run
            yield
        for run in in_order(self.domains):
            self.names += run
            yield

    def clear(self) -> Iterator[None]:
        """Let go of everything; goes on in less than a millisecond."""
        self.keys.clear()
        self.names.clear()
        self.events.clear()
        self._counted.clear()
        while self.observations or self.domains:
            yield
            del self.observations[-PIECE:]
            for _ in range(min(PIECE, len(self.domains))):
                self.domains.popitem()

    @property
    def delivered(self) -> int:
        """How many deliveries there are, to all domains."""
        return sum(map(itemgetter(DELIVERED), self.domains.values()))

    @property
    def bounced(self) -> int:
        """How many bounces there are, of all domains."""
        return sum(map(itemgetter(BOUNCED), self.domains.values()))

    def _count(self, total: Sum, said: str) -> None:
        if said == _DELIVERED:
            total[DELIVERED] += 1
        elif said == _BOUNCED:
            total[BOUNCED] += 1
        else:
            total[REFUSED] += 1
            total[UNDETERMINED] += said == _UNDETERMINED
            refusal = total[DOMAIN], said
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
