"""Pure: the periods of a subscription, as instants.

A period is a local time of its time zone that its frequency names. Debian's cron has the rules for
the days on which the clock changes (cronsim keeps them): a time that does not exist runs right
after the gap, and a time that comes twice runs once, except that what runs every so many minutes or
hours goes on doing so, as @hourly does.

A day beyond the end of a month is its last day with `at`; in a cron expression it is no day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from heapq import merge
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from shared.contracts.frequency import WEEKDAYS

_SHORTEST_MONTH_DAYS = 28
_LONGEST_MONTH_DAYS = 31
_DAY = timedelta(days=1)
_DEFAULT_DAYS = {"@weekly": "sun", "@monthly": "1"}


@dataclass(frozen=True)
class Recurrence:
    """The times at which a content is mailed, see `shared.contracts.frequency`."""

    frequency: str
    timezone: str = "UTC"
    at: str | None = None

    def after(self, moment: datetime) -> datetime:
        """Return the first period after a moment, in UTC."""
        return _after(self, moment.astimezone(UTC))

    def last(self, until: datetime, period: datetime, count: int = 1) -> datetime:
        """Return the first of the last `count` periods up to a moment.

        It is `period` or a later one.
        """
        # The clocks of all zones are whole minutes apart, and so are periods.
        minute = until.replace(second=0, microsecond=0)
        return period if self.after(period) > until else _last(self, minute, period, count)

    def find_last(self, until: datetime, period: datetime, count: int) -> datetime:
        """Return the same as `last`, which keeps what this finds in milliseconds."""
        # The library goes back from the local time of `until`, which a folded hour shows twice, so
        # the search begins a day before what it finds.
        local = until.astimezone(self._zone)
        before = (
            next(islice(CronSim(text, local, reverse=True), count - 1, None)).astimezone(UTC) - _DAY
            for text in self._expressions
        )
        found = takewhile(lambda each: each <= until, self.periods(max(*before, period)))
        return [period, *found][-count:][0]

    def periods(self, after: datetime) -> Iterator[datetime]:
        """Yield the periods after a moment in their order, in UTC; there is always another."""
        local = after.astimezone(self._zone)
        last = after
        for each in merge(*(CronSim(text, local) for text in self._expressions)):
            # Of a folded hour the library may yield the local time of `after` once more.
            if (period := each.astimezone(UTC)) > last:
                yield period
                last = period

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @cached_property
    def _expressions(self) -> tuple[str, ...]:
        """The cron expressions whose times together are the periods."""
        if not self.frequency.startswith("@"):
            return (self.frequency,)
        day, _, time = (self.at or "00:00").rpartition(" ")
        hour, minute = map(int, time.split(":"))
        when, day = f"{minute} {hour}", day or _DEFAULT_DAYS.get(self.frequency, "")
        match self.frequency:
            case "@hourly":
                return ("0 * * * *",)
            case "@daily":
                return (f"{when} * * *",)
            case "@weekly":
                return (f"{when} * * {WEEKDAYS.index(day) + 1}",)
        return tuple(f"{when} {each}" for each in _days_of_months(int(day)))


def _days_of_months(day: int) -> tuple[str, ...]:
    """Return the days of @monthly; one beyond the end of a month is its last day."""
    if day <= _SHORTEST_MONTH_DAYS:
        return (f"{day} * *",)
    if day == _LONGEST_MONTH_DAYS:
        return ("L * *",)
    # In February the last day; the 29th of a leap year is both, and one period.
    return (f"{day} * *", "L 2 *")


@lru_cache(maxsize=16_384)  # thousands of subscriptions have one recurrence, and one period
def _after(recurrence: Recurrence, moment: datetime) -> datetime:
    return next(recurrence.periods(moment))


@lru_cache(maxsize=16_384)
def _last(recurrence: Recurrence, until: datetime, period: datetime, count: int) -> datetime:
    return recurrence.find_last(until, period, count)
