"""Pure: the events of a run, and what the domain table has to say when it has them all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from ops.load.door import Request
from shared.contracts import FeedbackReported, Kind, Sighting

_SUFFIX: Final = ".load.example"  # RFC 2606: nobody's
# Before all domains of a run and after nearly all others, by name.
_FIRST: Final = ".aaa"
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Counts:
    """The events of one domain."""

    delivered: int = 0
    bounced: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.delivered + other.delivered, self.bounced + other.bounced)


NONE: Final = Counts()
_ONE: Final = {Kind.DELIVERED: Counts(delivered=1), Kind.BOUNCED: Counts(bounced=1)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent: events of which `bounced` percent tell of bounces, `batch` at a time.

    `run` makes the names of this run its own. The domains take turns.
    """

    run: str
    at: datetime
    events: int
    domains: int
    bounced: int = 1
    batch: int = 1

    def batches(self) -> Iterator[range]:
        """Give the numbers of the events that are sent at once."""
        for first in range(0, self.events, self.batch):
            yield range(first, min(first + self.batch, self.events))

    def domain(self, number: int) -> str:
        """Name the domain of an event."""
        return f"load-{self.run}-{number % self.domains:07d}{_SUFFIX}"

    def kind(self, number: int) -> Kind:
        """Tell what an event says; bounces are spread, and in each round over other domains."""
        place = number + number // self.domains
        return Kind.BOUNCED if place * self.bounced % _PERCENT < self.bounced else Kind.DELIVERED

    def request(self, batch: range) -> Request:
        """Give the request that tells some events."""
        first = batch.start
        if self.batch == 1:
            path = f"/v1/events/{self.domain(first)}/{self.kind(first)}"
            return Request("PUT", path, key=self._id(first))
        events = [self._fields(number) for number in batch]
        return Request("POST", "/v1/events", orjson.dumps({"events": events}))

    def report(self, batch: range) -> FeedbackReported:
        """Give the message that tells some events."""
        sightings = tuple(Sighting.model_construct(**self._fields(number)) for number in batch)
        identifier = self._id(batch.start)
        return FeedbackReported.model_construct(id=identifier, at=self.at, sightings=sightings)

    def _fields(self, number: int) -> Mapping[str, Any]:
        return {
            "id": self._id(number),
            "domain": self.domain(number),
            "kind": self.kind(number),
            "at": self.at,
        }

    def _id(self, number: int) -> str:
        return f"load-{self.run}-{number}"

    @property
    def prefix(self) -> str:
        """How the names of all domains of this run begin."""
        return f"load-{self.run}-"

    @property
    def before(self) -> str:
        """A domain that comes before all of this run, by name."""
        return f"{self.prefix}{0:07d}{_FIRST}"


class Ledger:
    """What was sent: what has to be in the table, and what may be, since no answer came."""

    def __init__(self, plan: Plan) -> None:
        self.events = 0
        self._plan = plan
        self._sent: dict[str, Counts] = {}

    def add(self, batch: range) -> None:
        """Note events that were answered."""
        self.events += len(batch)
        _count(self._plan, batch, self._sent)

    @property
    def domains(self) -> int:
        """How many domains have events."""
        return len(self._sent)

    @property
    def counts(self) -> Counts:
        """All events."""
        return sum(self._sent.values(), NONE)

    def differences(self, table: Mapping[str, Counts], unsure: Sequence[range]) -> list[str]:
        """Tell each domain that has not what was sent to it, or what no one sent anything to."""
        perhaps: dict[str, Counts] = {}
        for batch in unsure:
            _count(self._plan, batch, perhaps)
        return [
            f"{domain}: {_told(table.get(domain, NONE))}, sent were {_told(sent)}"
            for domain in sorted({*table, *self._sent})
            if not _within(
                table.get(domain, NONE),
                sent := self._sent.get(domain, NONE),
                sent + perhaps.get(domain, NONE),
            )
        ]


def _count(plan: Plan, batch: range, into: dict[str, Counts]) -> None:
    for number in batch:
        domain = plan.domain(number)
        into[domain] = into.get(domain, NONE) + _ONE[plan.kind(number)]


def _within(found: Counts, least: Counts, most: Counts) -> bool:
    delivered = least.delivered <= found.delivered <= most.delivered
    return delivered and least.bounced <= found.bounced <= most.bounced


def _told(counts: Counts) -> str:
    return f"{counts.delivered:,} delivered and {counts.bounced:,} bounced"
