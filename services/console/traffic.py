"""Pure: mails a second by class and outcome, from the sums that the ledger keeps by the hour.

The last hour needs more points than the ledger has sums: they are the differences between two looks
at all sums of a day. The last day is the sums themselves.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from shared.contracts import Category, EmailCounts

HOUR_SECONDS = 3600
SAMPLE_SECONDS = 10.0  # between two looks
MAX_POINTS = round(HOUR_SECONDS / SAMPLE_SECONDS)
DAY_HOURS = 24
# The names of outcomes, in the order of the charts; `accepted` counts mails, the others their ends.
OUTCOMES: Mapping[str, Sequence[str]] = {
    "accepted": ("accepted",),
    "delivered": ("delivered",),
    "bounced": ("bounced_permanent", "bounced_transient", "bounced_undetermined"),
    "failed": ("failed",),
    "expired": ("expired",),
    "suppressed": ("suppressed",),
    "cancelled": ("cancelled",),
    "uncertain": ("uncertain",),
}

Sums = Mapping[str, int]  # by outcome
Periods = Mapping[Category, Sequence[EmailCounts]]  # the sums of each hour


class TrafficPoint(NamedTuple):
    """Mails a second from the point before until `at`, by class and outcome."""

    at: datetime
    rates: Mapping[Category, Mapping[str, float]]


class UnfinishedCount(NamedTuple):
    """Recipients without a final outcome, and all that were accepted."""

    waiting: int
    accepted: int


@dataclass(slots=True)
class Look:
    """All sums of a day at one time, by class and hour."""

    at: datetime
    sums: Mapping[Category, Mapping[datetime, Sums]]


class TrafficHistory:
    """The points of the last hour, and the last look."""

    def __init__(self) -> None:
        self._points: deque[TrafficPoint] = deque(maxlen=MAX_POINTS)
        self._last: Look | None = None
        self._periods: Periods = {}

    @property
    def since(self) -> datetime | None:
        """The time of the first look, None before it."""
        return self._points[0].at if self._points else None

    def add(self, at: datetime, periods: Periods) -> None:
        """Add a look at the sums of the last day."""
        look = Look(at, {each: _by_hour(periods[each]) for each in periods})
        if self._last is not None and at > self._last.at:
            self._points.append(TrafficPoint(at, _rates(self._last, look)))
        self._last, self._periods = look, periods

    def hour(self, category: Category | None) -> Mapping[str, Sequence[float]]:
        """Return times and rates of the last hour by outcome, of a class or of all."""
        points = list(self._points)
        begin = points[-1].at - timedelta(seconds=HOUR_SECONDS) if points else None
        shown = [each for each in points if begin is not None and each.at > begin]
        series: dict[str, Sequence[float]] = {"time": [each.at.timestamp() for each in shown]}
        for name in OUTCOMES:
            series[name] = [_rate(each.rates, category, name) for each in shown]
        return series

    def day(self, category: Category | None, now: datetime) -> Mapping[str, Sequence[float]]:
        """Return times and rates of the last 24 hours by outcome, by the hour of acceptance."""
        last = now.replace(minute=0, second=0, microsecond=0)
        hours = [last - timedelta(hours=back) for back in reversed(range(DAY_HOURS))]
        sums = self._last.sums if self._last else {}
        chosen = [sums[each] for each in sums if category in (None, each)]
        series: dict[str, Sequence[float]] = {"time": [each.timestamp() for each in hours]}
        for name in OUTCOMES:
            series[name] = [
                sum(found.get(hour, {}).get(name, 0) for found in chosen) / _seconds(hour, now)
                for hour in hours
            ]
        return series

    def waiting(self) -> Mapping[Category, UnfinishedCount]:
        """Return what waits of the mails of the last day, by class."""
        return {
            category: UnfinishedCount(
                sum(each.waiting for each in periods), sum(each.accepted for each in periods)
            )
            for category, periods in self._periods.items()
        }

    def totals(self) -> Mapping[Category, Sums]:
        """Return the sums of the last day by class and outcome."""
        sums = self._last.sums if self._last else {}
        return {
            category: {name: sum(each[name] for each in hours.values()) for name in OUTCOMES}
            for category, hours in sums.items()
        }


def span(now: datetime) -> tuple[datetime, datetime]:
    """Return the time span to ask the ledger for: a day in whole hours, with the current one."""
    last = now.replace(minute=0, second=0, microsecond=0)
    return last - timedelta(hours=DAY_HOURS - 1), last + timedelta(hours=1)


def sums_of(counts: EmailCounts) -> Sums:
    """Return the sums of a time by outcome."""
    return {
        name: sum(getattr(counts, field) for field in fields) for name, fields in OUTCOMES.items()
    }


def _by_hour(periods: Sequence[EmailCounts]) -> Mapping[datetime, Sums]:
    return {each.since: sums_of(each) for each in periods}


def _rates(before: Look, after: Look) -> Mapping[Category, Mapping[str, float]]:
    """Return what was added a second: an hour that fell out of the day took nothing away."""
    seconds = (after.at - before.at).total_seconds()
    rates: dict[Category, Mapping[str, float]] = {}
    for category, hours in after.sums.items():
        earlier = before.sums.get(category, {})
        rates[category] = {
            name: sum(
                # A late bounce takes a delivery back, which is no negative rate.
                max(0, sums[name] - earlier.get(hour, {}).get(name, 0))
                for hour, sums in hours.items()
            )
            / seconds
            for name in OUTCOMES
        }
    return rates


def _rate(
    rates: Mapping[Category, Mapping[str, float]], category: Category | None, name: str
) -> float:
    return sum(found[name] for each, found in rates.items() if category in (None, each))


def _seconds(hour: datetime, now: datetime) -> float:
    return max(1.0, min(float(HOUR_SECONDS), (now - hour).total_seconds()))
