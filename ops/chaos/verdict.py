"""Pure: what became of the load of a fault, whether that is as promised, and the table."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

# An item that takes longer waited for the fault: without one most take less than a tenth of it.
LATE_SECONDS: Final = 2.0
_HEADS: Final = (
    *("fault", "lasted", "accepted", "delivered", "deferred", "expired", "lost", "doubled"),
    *("uncertain", "new after", "all after", "verdict"),
)


@dataclass(frozen=True, slots=True)
class LoadItem:
    """An accepted item: its flow, when it was accepted or due, and when each copy arrived."""

    flow: str
    accepted: float
    arrivals: Sequence[float]


@dataclass(frozen=True, slots=True)
class Doubt:
    """The recipients, by the ledger, without a known end, or with one that explains them.

    Of the `uncertain` SMTP cannot tell, the `deferred` wait for an attempt, and the mails of the
    `expired` were too late by a clock that the fault has set.
    """

    uncertain: AbstractSet[str] = frozenset()
    deferred: AbstractSet[str] = frozenset()
    expired: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Counts:
    """The mails of a fault.

    A copy too many of one that is `uncertain` is `doubled` and allowed, of any other it is
    `repeated`.
    """

    accepted: int
    delivered: int
    deferred: int
    expired: int
    lost: int
    doubled: int
    repeated: int
    uncertain: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the end of a fault; None is never.

    `first` is when the slowest flow had its first item that was accepted afterwards, `backlog`
    when the last late item arrived; each with its flow.
    """

    first: float | None
    backlog: float
    first_flow: str = ""
    backlog_flow: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most seconds of a recovery."""

    first: float
    backlog: float


@dataclass(frozen=True, slots=True)
class FaultResult:
    """The result of a fault that lasted `lasted` seconds; `books` has a line for each mistake."""

    fault: str
    lasted: float
    counts: Counts
    recovery: Recovery
    bounds: Bounds
    books: Sequence[str] = field(default=())

    @property
    def complaints(self) -> Sequence[str]:
        """Each broken promise in a few words; none if all is well."""
        counts, recovery, bounds = self.counts, self.recovery, self.bounds
        first = recovery.first
        found = {
            f"{counts.lost} lost": counts.lost > 0,
            f"{counts.repeated} doubled without need": counts.repeated > 0,
            "the books do not add up": bool(self.books),
            f"no new {recovery.first_flow}": first is None,
            f"new {recovery.first_flow} after more than {bounds.first:g} s": (
                first is not None and first > bounds.first
            ),
            f"all {recovery.backlog_flow} after more than {bounds.backlog:g} s": (
                recovery.backlog > bounds.backlog
            ),
        }
        return [text for text, is_so in found.items() if is_so]


def count(copies: Mapping[str, int], doubt: Doubt) -> Counts:
    """Return the counts of the accepted mails.

    `copies` are those of each mail's recipient in the mailbox, 0 if it is not there.
    """
    missing = {to for to, each in copies.items() if not each}
    extra = {to: each - 1 for to, each in copies.items() if each > 1}
    return Counts(
        accepted=len(copies),
        delivered=len(copies) - len(missing),
        deferred=len(missing & doubt.deferred),
        expired=len(missing & doubt.expired),
        lost=len(missing - doubt.uncertain - doubt.deferred - doubt.expired),
        doubled=sum(each for to, each in extra.items() if to in doubt.uncertain),
        repeated=sum(each for to, each in extra.items() if to not in doubt.uncertain),
        uncertain=len(doubt.uncertain),
    )


def recovery(items: Sequence[LoadItem], since: float) -> Recovery:
    """Return how soon all flows of some items went on after a time."""
    new = {each.flow: math.inf for each in items}
    late = [(0.0, "")]
    for each in items:
        if not each.arrivals:
            continue
        after = min(each.arrivals) - since
        if each.accepted >= since:
            new[each.flow] = min(new[each.flow], after)
        if min(each.arrivals) - each.accepted > LATE_SECONDS:
            late.append((after, each.flow))
    first, first_flow = max(((after, flow) for flow, after in new.items()), default=(math.inf, ""))
    backlog, backlog_flow = max(late)
    return Recovery(first if first < math.inf else None, backlog, first_flow, backlog_flow)


def table(results: Sequence[FaultResult]) -> str:
    """Return the table, a line each, with a head."""
    rows = [_HEADS, *(_row(each) for each in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(_HEADS) - 1

    def cell(number: int, text: str) -> str:
        return text.ljust(widths[number]) if number in {0, last} else text.rjust(widths[number])

    return "\n".join("  ".join(map(cell, range(last + 1), row)).rstrip() for row in rows)


def _row(result: FaultResult) -> tuple[str, ...]:
    counts, recovered = result.counts, result.recovery
    doubled = counts.doubled + counts.repeated
    waiting = (counts.deferred, counts.expired)
    numbers = (counts.accepted, counts.delivered, *waiting, counts.lost, doubled)
    first = "never" if recovered.first is None else f"{recovered.first:.1f} s"
    backlog = f"{recovered.backlog:.1f} s"
    return (
        result.fault,
        f"{result.lasted:.1f} s",
        *(f"{each:,}" for each in (*numbers, counts.uncertain)),
        f"{first} {recovered.first_flow}".rstrip(),
        f"{backlog} {recovered.backlog_flow}".rstrip(),
        "; ".join(result.complaints) or "ok",
    )
