"""Pure: the relays of all senders, from answers of one sender at a time, and the time of mails."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from shared.contracts import Category, RelaysDescribed

SAMPLE_SECONDS = 5.0  # between two questions; of several senders, another one answers each time
GONE = timedelta(seconds=60)  # without an answer a sender has ended, or there are very many
SPAN = timedelta(minutes=15)  # of the distribution of times
QUANTILES = (0.5, 0.95, 0.99)

Counts = Mapping[float, int]  # recipients within so many seconds


class SenderAnswer(NamedTuple):
    """The answer of one sender, and its time."""

    at: datetime
    answer: RelaysDescribed


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """The times from acceptance to final reply of one class: upper bounds, None beyond all."""

    category: Category
    count: int
    bounds: Sequence[float | None]  # of each of QUANTILES


class RelayHistory:
    """The answers of each sender within SPAN."""

    def __init__(self) -> None:
        self._answers: dict[str, deque[SenderAnswer]] = {}

    def add(self, at: datetime, answer: RelaysDescribed) -> None:
        """Add an answer, and forget the senders that have gone."""
        known = self._answers.setdefault(answer.sender, deque())
        known.append(SenderAnswer(at, answer))
        while known[0].at < at - SPAN:
            known.popleft()
        gone = [name for name, each in self._answers.items() if each[-1].at < at - GONE]
        for name in gone:
            del self._answers[name]

    def senders(self) -> Sequence[SenderAnswer]:
        """Return the newest answer of each sender, the one that started first first."""
        newest = [each[-1] for each in self._answers.values()]
        return sorted(newest, key=lambda each: (each.answer.started_at, each.answer.sender))

    def latencies(self) -> Sequence[LatencyRow]:
        """Return the times of the mails that ended within SPAN, by class, over all senders."""
        totals: dict[Category, dict[float, int]] = {}
        for answers in self._answers.values():
            for category, counts in _added(answers):
                sums = totals.setdefault(category, {})
                for bound, count in counts.items():
                    sums[bound] = sums.get(bound, 0) + count
        return [_row(each, totals[each]) for each in Category if each in totals]


def _added(answers: Sequence[SenderAnswer]) -> Iterator[tuple[Category, Counts]]:
    """Yield what was added since the first answer; all of it, if the sender began after that."""
    first, last = answers[0], answers[-1].answer
    is_new = last.started_at > first.at - GONE
    before = {} if is_new else dict(_counts(first.answer))
    for category, counts in _counts(last):
        earlier = before.get(category, {})
        yield category, {each: count - earlier.get(each, 0) for each, count in counts.items()}


def _counts(answer: RelaysDescribed) -> Iterator[tuple[Category, Counts]]:
    for each in answer.latencies:
        yield (
            each.category,
            {
                float("inf") if step.seconds is None else step.seconds: step.count
                for step in each.steps
            },
        )


def _row(category: Category, counts: Counts) -> LatencyRow:
    count = max(counts.values(), default=0)
    bounds = [_bound(counts, share * count) for share in QUANTILES] if count else []
    return LatencyRow(category, count, bounds)


def _bound(counts: Counts, wanted: float) -> float | None:
    """Return the smallest bound within which so many mails ended, None beyond all of them."""
    enough = [bound for bound, count in counts.items() if count >= wanted]
    bound = min(enough)
    return None if bound == float("inf") else bound
