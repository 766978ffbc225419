"""Pure: measurements as tables and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ops.load.report import percentile

_MILLISECONDS = 1000
_MEGABYTE = 1_000_000
_COURSE_STEPS = 10
REACHED, MISSED = "reached", "missed"


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


def table(unit: str, series: Sequence[Series], octets: int = 0) -> str:
    """Return a line for each of `series`; the last is the baseline of the ratios.

    With the `octets` of one there is a column of megabytes a second.
    """
    baseline = series[-1]
    head = ["", unit, *(["MB/s"] if octets else []), "ratio", "lowest", "highest"]
    if baseline.latencies:
        head += ["p50 ms", "p99 ms"]
    return aligned([head, *(_cells(each, baseline, octets) for each in series)])


def times(ours: Series, rival: Series, wanted: float) -> str:
    """Describe how many times as fast we are, and whether that is what is wanted."""
    ratio = ours.rate / rival.rate
    verdict = REACHED if ratio >= wanted else MISSED
    return f"  {ratio:.1f} times {rival.name}; wanted are {wanted:g}: {verdict}"


def fast(series: Series, rate: float, seconds: float) -> str:
    """Describe whether a rate and the 99th percentile of latencies are what is wanted."""
    verdict = REACHED if series.rate >= rate and slowest(series) < seconds else MISSED
    wanted = f"wanted are {rate:,.0f} and less than {seconds * _MILLISECONDS:.0f} ms"
    reached = f"{series.rate:,.0f} a second, p99 {slowest(series) * _MILLISECONDS:.1f} ms"
    return f"  {series.name}: {reached}; {wanted}: {verdict}"


def soon(series: Series, seconds: float) -> str:
    """Describe whether the 99th percentile of latencies is what is wanted."""
    verdict = REACHED if slowest(series) < seconds else MISSED
    wanted = f"wanted is less than {seconds * _MILLISECONDS:.1f} ms"
    return f"  {series.name}: p99 {slowest(series) * _MILLISECONDS:.1f} ms; {wanted}: {verdict}"


def slowest(series: Series) -> float:
    """Return the 99th percentile of latencies, in seconds."""
    return percentile(series.latencies, 0.99)


def at_least(series: Series, wanted: float) -> str:
    """Describe whether a rate is what is wanted."""
    verdict = REACHED if series.rate >= wanted else MISSED
    return f"  {series.rate:,.0f} a second; wanted are {wanted:,.0f}: {verdict}"


def no_slower(series: Series, rival: Series, share: float) -> str:
    """Describe how much slower `series` is than `rival`, and whether `share` is exceeded."""
    slower = 1 - series.rate / rival.rate
    verdict = REACHED if slower <= share else MISSED
    return f"  {slower:.0%} slower than with {rival.name}; {share:.0%} are allowed: {verdict}"


def most_memory(peaks: Sequence[int], limit: int) -> str:
    """Describe the most octets of memory of all repetitions, and whether they are under `limit`."""
    most = max(peaks)
    verdict = REACHED if most < limit else MISSED
    wanted = f"wanted are less than {limit / _MEGABYTE:.0f}"
    return f"  {most / _MEGABYTE:.0f} MB of memory at most; {wanted}: {verdict}"


def course(samples: Sequence[int]) -> str:
    """Describe memory, in octets, from the first of `samples` to the last in ten steps."""
    steps = [
        samples[place * (len(samples) - 1) // _COURSE_STEPS] for place in range(_COURSE_STEPS + 1)
    ]
    return "  " + " ".join(f"{step / _MEGABYTE:.0f}" for step in steps) + " MB"


def split(whole: Sequence[float], part: Sequence[float]) -> str:
    """Describe, by medians, how much of `whole` was `part`; both are in seconds."""
    return (
        f"  of {median(whole) * _MILLISECONDS:.1f} ms from delivery to acknowledgement"
        f" {median(part) * _MILLISECONDS:.1f} ms were SMTP"
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Align cells: the first of a row to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(f"  {line}" for line in lines)


def _cells(series: Series, baseline: Series, octets: int) -> list[str]:
    cells = [
        series.name,
        f"{series.rate:,.0f}",
        *([f"{series.rate * octets / _MEGABYTE:,.1f}"] if octets else []),
        f"{series.rate / baseline.rate:.2f}",
        f"{min(series.rates):,.0f}",
        f"{max(series.rates):,.0f}",
    ]
    if series.latencies:
        cells += [_milliseconds(series.latencies, share) for share in (0.5, 0.99)]
    return cells


def _milliseconds(latencies: Sequence[float], share: float) -> str:
    return f"{percentile(latencies, share) * _MILLISECONDS:.1f}"
