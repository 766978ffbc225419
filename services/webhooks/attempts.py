"""Pure: the meaning of an answer, and the time of the next try."""

from datetime import timedelta
from enum import IntEnum
from typing import NamedTuple

RETRY_SPAN = timedelta(days=3)  # from the first try of an event, or the first failure of a series
FIRST_DELAY_SECONDS = 5.0
DELAY_FACTOR = 3.0
MAX_DELAY_SECONDS = 1800.0  # a receiver that is back waits no longer for what it missed
JITTER_SHARE = 0.2  # of a delay, to either side: receivers are not called all at once
LATEST_SECONDS = MAX_DELAY_SECONDS * (1 + JITTER_SHARE)  # until the next try, at most
GONE = 410
_SUCCESS = range(200, 300)


class State(IntEnum):
    """The state of an event at one endpoint, as the table has it."""

    WAITING = 0  # due at a time
    PARKED = 1  # until the endpoint works again, or is replayed if it is disabled
    HELD = 2  # missed while the endpoint was disabled; until it is replayed
    DELIVERED = 3
    FAILED = 4  # no try is left


class Next(NamedTuple):
    """The state of an event after a try, and the time until its next one."""

    state: State
    delay_seconds: float | None = None
    is_gone: bool = False


def is_success(status: int | None) -> bool:
    """Return whether an answer says that the receiver has the event."""
    return status in _SUCCESS


def after(  # noqa: PLR0913 -- the facts of a try, each by its name
    status: int | None,
    tries: int,
    since_first: timedelta,
    jitter: float,
    *,
    once: bool = False,
    retry_after: float | None = None,
) -> Next:
    """Return what follows a try: `tries` with it, `since_first` try, `jitter` from 0 to 1.

    A test is tried `once`. A `retry_after` that the receiver asks for, in seconds, counts if it is
    later, up to MAX_DELAY_SECONDS.
    """
    if is_success(status):
        return Next(State.DELIVERED)
    if once:
        return Next(State.FAILED)
    if status == GONE:
        return Next(State.PARKED, is_gone=True)
    if since_first >= RETRY_SPAN:
        return Next(State.FAILED)
    return Next(State.WAITING, max(delay(tries, jitter), min(retry_after or 0, MAX_DELAY_SECONDS)))


def delay(tries: int, jitter: float) -> float:
    """Return the seconds until the try that follows so many."""
    steps = min(tries - 1, 20)  # beyond it the power is a large number for nothing
    seconds = min(FIRST_DELAY_SECONDS * DELAY_FACTOR**steps, MAX_DELAY_SECONDS)
    return seconds * (1 + JITTER_SHARE * (2 * jitter - 1))
