"""The load of delivery events: what is sent, and what the domain table must then hold."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from ops.load.http import GatewayClient, HttpRequest, LoadError
from shared.contracts import FeedbackReported, Kind, Sighting

_SUFFIX: Final = ".load.example"  # RFC 2606: reserved
_FIRST_SUFFIX: Final = ".aaa"  # sorts before `_SUFFIX`
_PAGE_SIZE: Final = 1000  # domains; the most that the gateway returns


_KINDS: Final = (Kind.DELIVERED, Kind.BOUNCED)

EventCounts = Counter[tuple[str, Kind]]  # by domain and kind


@dataclass(frozen=True, slots=True)
class EventPlan:
    """The events of a run, by number: `bounced` percent are bounces, `batch` are sent at a time.

    `run` is part of all ids and domains. The domains take turns.
    """

    run: str
    at: datetime
    events: int
    domains: int
    bounced: int = 1
    batch: int = 1

    def batches(self) -> Iterator[range]:
        """Yield the numbers of the events of each batch."""
        for first in range(0, self.events, self.batch):
            yield range(first, min(first + self.batch, self.events))

    def domain(self, number: int) -> str:
        """Return the domain of an event."""
        return f"{self.prefix}{number % self.domains:07d}{_SUFFIX}"

    def kind(self, number: int) -> Kind:
        """Return the kind of an event; in each round the bounces are of other domains."""
        place = number + number // self.domains
        return Kind.BOUNCED if place * self.bounced % 100 < self.bounced else Kind.DELIVERED

    def request(self, batch: range) -> HttpRequest:
        """Return the HTTP request with the events of a batch."""
        first = batch.start
        if self.batch == 1:
            path = f"/v1/events/{self.domain(first)}/{self.kind(first)}"
            return HttpRequest("PUT", path, key=self._id(first))
        events = [self._fields(number) for number in batch]
        return HttpRequest("POST", "/v1/events", orjson.dumps({"events": events}))

    def message(self, batch: range) -> FeedbackReported:
        """Return the AMQP message with the events of a batch."""
        sightings = tuple(Sighting.model_construct(**self._fields(number)) for number in batch)
        identifier = self._id(batch.start)
        return FeedbackReported.model_construct(id=identifier, at=self.at, sightings=sightings)

    def kinds(self, batches: Iterable[range]) -> Iterator[tuple[str, Kind]]:
        """Yield the domain and the kind of each event of some batches."""
        return ((self.domain(number), self.kind(number)) for each in batches for number in each)

    @property
    def prefix(self) -> str:
        """The first characters of all domains and ids of this run."""
        return f"load-{self.run}-"

    @property
    def before(self) -> str:
        """A domain that sorts before all of this run, and after nearly all others."""
        return f"{self.prefix}{0:07d}{_FIRST_SUFFIX}"

    def _fields(self, number: int) -> Mapping[str, Any]:
        return {
            "id": self._id(number),
            "domain": self.domain(number),
            "kind": self.kind(number),
            "at": self.at,
        }

    def _id(self, number: int) -> str:
        return f"{self.prefix}{number}"


class EventLoad:
    """The events of a plan, on their way to the domain table of the gateway at `client`.

    `counted_before` are the events that the table held when the run began.
    """

    name = "events"
    place = "the domain table"

    def __init__(self, plan: EventPlan, client: GatewayClient, counted_before: int) -> None:
        self.total = plan.events
        self.done = 0
        self.items = plan.batches
        self.request = plan.request
        self.message = plan.message
        self._plan = plan
        self._client = client
        self._counted_before = counted_before
        self._sent: EventCounts = Counter()

    def sent(self, item: range) -> None:
        """Count the events of a batch that was acknowledged."""
        self.done += len(item)
        self._sent.update(self._plan.kinds([item]))

    async def arrived(self) -> int:
        """Return how many events were counted since the run began, other senders' included."""
        return await count_events(self._client) - self._counted_before

    async def differences(self, unsure: Sequence[range]) -> Sequence[str]:
        """Compare the table with what was sent."""
        return self.compare(await read_counts(self._client, self._plan), unsure)

    def compare(self, found: EventCounts, unsure: Sequence[range]) -> Sequence[str]:
        """Describe each domain whose counts in the table are wrong.

        The events of the batches in `unsure`, which were not acknowledged, may be counted or not.
        """
        sent, most = self._sent, self._sent + Counter(self._plan.kinds(unsure))
        wrong = {key[0] for key in found | sent if not sent[key] <= found[key] <= most[key]}
        return [
            f"{each}: {_described(found, each)}, sent were {_described(sent, each)}"
            for each in sorted(wrong)
        ]

    def summary(self) -> Sequence[str]:
        """Describe what was acknowledged."""
        domains = {domain for domain, _ in self._sent}
        total: EventCounts = Counter()
        for (_, kind), count in self._sent.items():
            total["", kind] += count
        return [f"{len(domains):,} domains, {_described(total, '')}"]


async def count_events(client: GatewayClient) -> int:
    """Return the number of events of all domains. Raises as `GatewayClient.send` does."""
    try:
        stats = await client.get("/v1/domains/stats")
        return int(stats["delivered"] + stats["bounced"])
    except (ValueError, TypeError, LookupError):
        raise LoadError("the server at the gateway's address is no gateway") from None


async def read_counts(client: GatewayClient, plan: EventPlan) -> EventCounts:
    """Return the counts of all domains of a run. Raises as `GatewayClient.send` does."""
    found: EventCounts = Counter()
    after: str | None = plan.before
    while after is not None:  # until a page is the last, or has domains of another run
        page = await client.get(f"/v1/domains?limit={_PAGE_SIZE}&after={after}")
        ours = [each for each in page["domains"] if each["domain"].startswith(plan.prefix)]
        found |= Counter({(each["domain"], kind): each[kind] for each in ours for kind in _KINDS})
        after = page.get("next") if len(ours) == len(page["domains"]) else None
    return found


def _described(counts: EventCounts, domain: str) -> str:
    delivered, bounced = (counts[domain, kind] for kind in _KINDS)
    return f"{delivered:,} delivered and {bounced:,} bounced"
