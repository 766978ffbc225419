"""Pure: the wait that a server asks for in the words of its reply, as greylisting ones do."""

import re

from shared.contracts import Reply
from shared.retry import LADDER, SPREAD

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = LADDER[-1].seconds * (1 - SPREAD)  # what the ladder can wait for

_TRANSIENT = 4  # the first digit of a reply that may be asked again (RFC 5321 4.2.1)
# A wish and a time not far behind it. A time alone is none: "at most 100 mails in 1 hour".
_WISH = (
    r"\b(?:try(?: \w+)? again|retry(?:ing)?|resend|come back|wait|"
    r"gr[ae]ylist(?:ed|ing)?|defer(?:red|ring)?|delay(?:ed)?)\b[^\d.;]{0,40}\b"
)
_AMOUNT = re.compile(
    rf"{_WISH}(\d{{1,5}}) ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b", re.IGNORECASE
)
_CLOCK = re.compile(rf"{_WISH}(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?(?!\d)", re.IGNORECASE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def wait_asked(reply: Reply) -> float | None:
    """Return the seconds that a temporary refusal asks for, None if it asks for none.

    Bounded by what the delay ladder can keep; the words "try again in 5 minutes", "retry after
    300 seconds" and "come back in 00:05:00" are understood.
    """
    if reply.code // 100 != _TRANSIENT:
        return None
    seconds = _seconds(reply.text)
    if not seconds:
        return None
    return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)


def _seconds(text: str) -> float | None:
    if amount := _AMOUNT.search(text):
        return int(amount[1]) * _UNITS[amount[2][0].lower()]
    if clock := _CLOCK.search(text):
        first, second, third = int(clock[1]), int(clock[2]), clock[3]
        # Two numbers are minutes and seconds, three begin with the hours.
        hours, minutes, rest = (0, first, second) if third is None else (first, second, int(third))
        return hours * 3600.0 + minutes * 60.0 + rest
    return None
