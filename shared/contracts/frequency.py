"""How often a content is mailed: the frequency, its time of day and its time zone.

A named frequency means what cron means by it: @daily is midnight, @weekly Sunday, @monthly the
first of the month. `at` names another time. A cron expression has five fields; `31` in it is a day
that only some months have, and `L` the last day of each.
"""

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Literal, get_args
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, StringConstraints

NamedFrequency = Literal["@hourly", "@daily", "@weekly", "@monthly"]
NAMED_FREQUENCIES: tuple[str, ...] = get_args(NamedFrequency)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_FREQUENCY_CHARS = 100
MAX_TIMEZONE_CHARS = 64
FREQUENCY = r"^(@(hourly|daily|weekly|monthly)|[0-9A-Za-z*/,#-]+( [0-9A-Za-z*/,#-]+){4})$"
LOCAL_TIME = (
    r"^((mon|tue|wed|thu|fri|sat|sun|[1-9]|[12][0-9]|3[01]) )?([01][0-9]|2[0-3]):[0-5][0-9]$"
)
TIMEZONE = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"
# A host's own zone, and the one of a host without any: `available_timezones` has them on Debian.
_NO_ZONES = frozenset({"localtime", "Factory"})
_DAYS = {
    "@daily": re.compile(""),
    "@weekly": re.compile("|".join(["", *WEEKDAYS])),
    "@monthly": re.compile("[0-9]*"),
}


def _check_frequency(text: str) -> str:
    if text not in NAMED_FREQUENCIES:
        try:
            # A day that never comes, such as the 30th of February, is a mistake as well.
            next(CronSim(text, datetime(2000, 1, 1)))  # noqa: DTZ001 -- local times
        except CronSimError as error:
            raise ValueError(f"must be {', '.join(NAMED_FREQUENCIES)} or cron: {error}") from None
        except StopIteration:
            raise ValueError("must have a time that comes") from None
    return text


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_ZONES)


def check_timezone(name: str) -> str:
    """Return the name of a time zone. Raises ValueError for another text.

    A host has more: its own zone, and those of `right/`, whose minutes have leap seconds.
    """
    if name not in _timezones():
        raise ValueError("must be a time zone of the IANA, such as Europe/Berlin")
    return name


def check_local_time(frequency: str, at: str | None) -> None:
    """Raise ValueError if a time of day does not go with a frequency."""
    if at is None:
        return
    days = _DAYS.get(frequency)
    if days is None:
        raise ValueError(f"`at` must be absent with {frequency}")
    if not days.fullmatch(at.rpartition(" ")[0]):
        raise ValueError(f"`at` must have no such day with {frequency}")


Frequency = Annotated[
    str,
    StringConstraints(pattern=FREQUENCY, max_length=MAX_FREQUENCY_CHARS),
    AfterValidator(_check_frequency),
]
LocalTime = Annotated[
    str,
    StringConstraints(pattern=LOCAL_TIME, max_length=9),
    Field(description="`08:30`, `mon 08:30`, `31 08:30`: the last day in shorter months"),
]
TimeZone = Annotated[
    str,
    StringConstraints(pattern=TIMEZONE, max_length=MAX_TIMEZONE_CHARS),
    AfterValidator(check_timezone),
]
