"""Pure: what was measured, as tables to read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Series:
    """The rates of all repetitions, a second; latencies, if there are any, are in seconds."""

    name: str
    rates: Sequence[float]
    latencies: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """The median, which one disturbed repetition does not move."""
        return median(self.rates)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the least of `values` that at least `share` (0 to 1) of them do not exceed."""
    rank = math.ceil(share * len(values))  # the nearest-rank method: always a value that was seen
    return sorted(values)[max(rank, 1) - 1]


def table(unit: str, series: Sequence[Series]) -> str:
    """Give a line for each of `series`; the last is the baseline of the ratios."""
    baseline = series[-1]
    head = ["", unit, "ratio", "lowest", "highest"]
    if baseline.latencies:
        head += ["p50 ms", "p99 ms"]
    return aligned([head, *(_cells(each, baseline) for each in series)])


def split(whole: Sequence[float], part: Sequence[float]) -> str:
    """Tell, by medians, how much of `whole` was `part`; both are in seconds."""
    return (
        f"  of {median(whole) * _MILLISECONDS:.1f} ms from delivery to acknowledgement"
        f" {median(part) * _MILLISECONDS:.1f} ms were SMTP"
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Put cells below each other: the first of a row to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(f"  {line}" for line in lines)


def _cells(series: Series, baseline: Series) -> list[str]:
    cells = [
        series.name,
        f"{series.rate:,.0f}",
        f"{series.rate / baseline.rate:.2f}",
        f"{min(series.rates):,.0f}",
        f"{max(series.rates):,.0f}",
    ]
    if series.latencies:
        cells += [_milliseconds(series.latencies, share) for share in (0.5, 0.99)]
    return cells


def _milliseconds(latencies: Sequence[float], share: float) -> str:
    return f"{percentile(latencies, share) * _MILLISECONDS:.1f}"
