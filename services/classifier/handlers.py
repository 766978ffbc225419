"""What the classifier does with each message."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from services.classifier.cache import Cache
from services.classifier.change import Change, announce
from services.classifier.evidence import Event, Observation, latest, observe
from services.classifier.record import Record, Totals
from services.classifier.rule import Rule
from shared.contracts import (
    Contract,
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainEvidence,
    DomainsCounted,
    DomainsListed,
    ListDomains,
    Verdict,
)
from shared.errors import Reject

# Clocks differ by minutes and zones by hours: no event that has happened is refused for them.
MAX_AHEAD = timedelta(days=1)


class Counter(Protocol):
    """Where events are counted."""

    async def count(self, observations: Sequence[Observation]) -> Sequence[Change]:
        """Count observations once; return the changes they made, at every copy again."""


class Catalogue(Protocol):
    """Where what is known can be read."""

    async def record(self, domain: str) -> Record:
        """Give what is known of a domain."""

    async def page(self, status: Verdict | None, after: str, most: int) -> Sequence[Record]:
        """Give the next domains after one."""

    async def totals(self) -> Totals:
        """Give the sums over all domains."""


@dataclass(frozen=True, slots=True)
class EventHandlers:
    """Counts what is evidence; `now` is the time by this process.

    Safe to run twice: an event's id and its effect are one transaction. A change of verdict is
    announced at every copy of the event that made it, with the same id.
    """

    counter: Counter
    now: Callable[[], datetime]

    async def on_event(self, event: Event) -> Sequence[Contract]:
        """Count an event and announce the changes of verdicts that it makes.

        Raises Reject when a recipient has no domain, and for a time far ahead, which would be the
        domain's last event for years.
        """
        if latest(event) > self.now() + MAX_AHEAD:
            raise Reject(f"at: must be at most {MAX_AHEAD.days} day ahead of now")
        try:
            observations = list(observe(event))
        except ValueError as error:
            raise Reject(f"the recipient's domain {error}") from error
        return [announce(change) for change in await self.counter.count(observations)]


@dataclass(frozen=True, slots=True)
class QueryHandlers:
    """Answers questions. Changes nothing, so each can be asked again."""

    catalogue: Catalogue
    rule: Rule
    cache: Cache[Record]

    async def on_describe_domain(self, question: DescribeDomain) -> Sequence[Contract]:
        """Answer with the evidence on a domain."""
        record = self.cache.get(question.domain)
        if record is None:
            read_at = self.cache.now()
            record = await self.catalogue.record(question.domain)
            self.cache.keep(question.domain, record, read_at)
        return [DomainDescribed(id=question.id, **record.told(self.rule))]

    async def on_list_domains(self, question: ListDomains) -> Sequence[Contract]:
        """Answer with a page of domains, by name."""
        page = await self.catalogue.page(question.status, question.after or "", question.limit + 1)
        shown = page[: question.limit]
        return [
            DomainsListed(
                id=question.id,
                domains=tuple(DomainEvidence(**each.told(self.rule)) for each in shown),
                next=shown[-1].domain if len(page) > len(shown) else None,
            )
        ]

    async def on_count_domains(self, question: CountDomains) -> Sequence[Contract]:
        """Answer with the sums over all domains."""
        totals = await self.catalogue.totals()
        return [
            DomainsCounted(
                id=question.id,
                total=totals.unknown + totals.catch_all + totals.not_catch_all,
                **totals._asdict(),
            )
        ]
