"""Tests of the periods of subscriptions, over time zones and changes of the clock."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from services.scheduler.recurrence import Recurrence

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 731
DAY = timedelta(days=1)
CHANGING = ("America/New_York", "Australia/Lord_Howe", "Europe/Berlin")
TIMES = ("00:00", "00:30", "02:15", "02:30", "03:00", "23:59")


def local(recurrence: Recurrence, after: datetime, count: int) -> list[str]:
    """Return the next periods as local times."""
    zone = ZoneInfo(recurrence.timezone)
    found = islice(recurrence.periods(after), count)
    return [each.astimezone(zone).isoformat(timespec="minutes") for each in found]


@pytest.mark.parametrize(
    ("frequency", "at", "times"),
    [
        ("@hourly", None, ["2026-01-31T10:00+00:00", "2026-01-31T11:00+00:00"]),
        ("@daily", None, ["2026-02-01T00:00+00:00", "2026-02-02T00:00+00:00"]),
        ("@daily", "09:31", ["2026-01-31T09:31+00:00", "2026-02-01T09:31+00:00"]),
        ("@weekly", None, ["2026-02-01T00:00+00:00", "2026-02-08T00:00+00:00"]),
        ("@weekly", "mon 08:30", ["2026-02-02T08:30+00:00", "2026-02-09T08:30+00:00"]),
        ("@weekly", "sun 08:30", ["2026-02-01T08:30+00:00", "2026-02-08T08:30+00:00"]),
        ("@monthly", None, ["2026-02-01T00:00+00:00", "2026-03-01T00:00+00:00"]),
        ("@monthly", "15 08:00", ["2026-02-15T08:00+00:00", "2026-03-15T08:00+00:00"]),
        ("@monthly", "31 08:00", ["2026-02-28T08:00+00:00", "2026-03-31T08:00+00:00"]),
        ("@monthly", "30 08:00", ["2026-02-28T08:00+00:00", "2026-03-30T08:00+00:00"]),
        ("@monthly", "29 08:00", ["2026-02-28T08:00+00:00", "2026-03-29T08:00+00:00"]),
        ("0 8 31 * *", None, ["2026-03-31T08:00+00:00", "2026-05-31T08:00+00:00"]),
        ("0 8 L * *", None, ["2026-02-28T08:00+00:00", "2026-03-31T08:00+00:00"]),
        ("*/20 9-10 * * *", None, ["2026-01-31T09:40+00:00", "2026-01-31T10:00+00:00"]),
    ],
)
def test_each_frequency(frequency: str, at: str | None, times: list[str]) -> None:
    """A named frequency means what cron means by it, at its own time if it has one."""
    after = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

    assert local(Recurrence(frequency, "UTC", at), after, 2) == times


def test_a_leap_day() -> None:
    """The 29th of February is the 29th, and the last day of that month, and one period."""
    after = datetime(2028, 2, 20, tzinfo=UTC)

    assert local(Recurrence("@monthly", "UTC", "29 08:00"), after, 2) == [
        "2028-02-29T08:00+00:00",
        "2028-03-29T08:00+00:00",
    ]


@pytest.mark.parametrize(
    ("zone", "at", "after", "times"),
    [
        (
            "Europe/Berlin",
            "02:30",
            "2026-03-28",
            ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
        ),
        (
            "Europe/Berlin",
            "02:30",
            "2026-10-24",
            ["2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
        ),
        (
            "America/New_York",
            "01:30",
            "2026-10-31",
            ["2026-10-31T01:30-04:00", "2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"],
        ),
        (
            "Australia/Lord_Howe",
            "02:15",
            "2026-10-03",
            ["2026-10-03T02:15+10:30", "2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
        ),
    ],
)
def test_the_days_on_which_the_clock_changes(
    zone: str, at: str, after: str, times: list[str]
) -> None:
    """A time that does not exist runs right after the gap; one that comes twice runs once."""
    moment = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))

    assert local(Recurrence("@daily", zone, at), moment, 3) == times


def test_every_hour_is_mailed() -> None:
    """An hour that comes twice by the local clock is two hours, and a gap none."""
    before = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    found = [*islice(Recurrence("@hourly", "Europe/Berlin").periods(before), 6)]

    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


@cache
def changes(zone: ZoneInfo) -> list[datetime]:
    """Return the days after which the clock of a zone is another, within two years."""
    days = [START + number * DAY for number in range(DAYS + 1)]
    offsets = [each.astimezone(zone).utcoffset() for each in days]
    return [days[n] for n, (one, other) in enumerate(pairwise(offsets)) if one != other]


def expected(zone: ZoneInfo, day: date, at: time) -> datetime:
    """Return the moment of a local time by the zone's rules alone: right after a gap in one."""
    moment = datetime.combine(day, at, zone)
    while moment.astimezone(UTC).astimezone(zone).replace(fold=0) != moment:
        moment += timedelta(minutes=1)
    return moment.astimezone(UTC)


@pytest.mark.parametrize("at", TIMES)
def test_once_a_local_day_in_every_zone(at: str) -> None:
    """A daily period comes once a local day, whatever the zone does to its clock."""
    wrong = []
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for change in [START, *changes(zone)]:
            begin = change - 2 * DAY
            found = [*islice(Recurrence("@daily", name, at).periods(begin), 6)]
            first = found[0].astimezone(zone).date()
            days = [first + number * DAY for number in range(6)]
            if found != [expected(zone, day, time.fromisoformat(at)) for day in days]:
                wrong.append((name, change))

    assert wrong == []


@pytest.mark.parametrize("zone", CHANGING)
def test_each_period_follows_from_the_one_before(zone: str) -> None:
    """A scheduler that starts anew after each period finds the same ones."""
    recurrence, period, found = Recurrence("@daily", zone, "02:15"), START, list[datetime]()
    for _ in range(DAYS):
        period = recurrence.after(period)
        found.append(period)

    assert found == [*islice(recurrence.periods(START), DAYS)]
