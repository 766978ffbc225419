"""The handlers of the classifier: evidence, and questions about domains."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from services.classifier.evidence import Event, Observation, latest, observe
from services.classifier.rule import VerdictRule, announce
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader
from shared.contracts import (
    Contract,
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainEvidence,
    DomainsCounted,
    DomainsListed,
    FeedbackReported,
    ListDomains,
)
from shared.errors import Reject

# Clocks differ by minutes and zones by hours: no event that has happened is refused for them.
MAX_AHEAD = timedelta(days=1)
OBSERVE_TOGETHER = 200  # events of a report, in some 2 ms


@dataclass(frozen=True, slots=True)
class EventHandlers:
    """Counts evidence; `now` is the time by this process.

    Safe to run twice: an event's id and its effect are one transaction. A change of verdict is
    announced at every copy of the event that made it, with the same id.
    """

    store: EvidenceStore
    now: Callable[[], datetime]

    async def on_event(self, event: Event) -> Sequence[Contract]:
        """Count an event and announce the changes of verdicts that it makes.

        A time far ahead would be the domain's last event for years. A program's is rejected. Of the
        sender's own events, whose clock was wrong, it counts as now. Raises Reject also when a
        recipient has no domain.
        """
        if latest(event) > (now := self.now()) + MAX_AHEAD:
            if isinstance(event, FeedbackReported):
                raise Reject(f"at: must be at most {MAX_AHEAD.days} day ahead of now")
            event = event.model_copy(update={"at": now})
        try:
            observations = await self._observed(event)
        except ValueError as error:
            raise Reject(f"the recipient's domain {error}") from error
        return [announce(change) for change in await self.store.count(observations)]

    async def _observed(self, event: Event) -> Sequence[Observation]:
        """Return the evidence of an event; between two parts of a report others have their turn."""
        observations, left = list[Observation](), observe(event)
        while part := list(islice(left, OBSERVE_TOGETHER)):
            observations += part
            if len(part) == OBSERVE_TOGETHER:
                await asyncio.sleep(0)
        return observations


@dataclass(frozen=True, slots=True)
class QueryHandlers:
    """Answers questions. Changes nothing, so each can be asked again."""

    reader: DomainReader
    rule: VerdictRule

    async def on_describe_domain(self, question: DescribeDomain) -> Sequence[Contract]:
        """Answer with the evidence on a domain."""
        record = await self.reader.record(question.domain)
        return [DomainDescribed(id=question.id, **record.described(self.rule))]

    async def on_list_domains(self, question: ListDomains) -> Sequence[Contract]:
        """Answer with a page of domains, by name."""
        page = await self.reader.page(question.status, question.after or "", question.limit + 1)
        shown = page[: question.limit]
        return [
            DomainsListed(
                id=question.id,
                domains=tuple(DomainEvidence(**each.described(self.rule)) for each in shown),
                next=shown[-1].domain if len(page) > len(shown) else None,
            )
        ]

    async def on_count_domains(self, question: CountDomains) -> Sequence[Contract]:
        """Answer with the sums over all domains."""
        totals = await self.reader.totals()
        return [
            DomainsCounted(
                id=question.id,
                total=totals.unknown + totals.catch_all + totals.not_catch_all,
                **totals._asdict(),
            )
        ]
