"""Pure: which period of a subscription is mailed now, and when the next one is due."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import chain, zip_longest
from typing import NamedTuple

from services.scheduler.recurrence import Recurrence
from shared.contracts import Missed

# A period that is due for longer was missed: no scheduler ran, or the queue of mails was full.
LATE = timedelta(hours=1)
MAX_MADE_UP = 31  # missed periods that a subscription is mailed later with `all`, the last ones
MAX_SHARES = 50  # content types that are mailed in one turn
_MILLISECOND = timedelta(milliseconds=1)

Key = tuple[str, str]  # of a content type: its client, empty for none, and its name


class Plan(NamedTuple):
    """The period that is mailed now, if any, and the one that follows; in UTC."""

    mailed: datetime | None
    following: datetime


def plan(recurrence: Recurrence, missed: Missed, period: datetime, now: datetime) -> Plan:
    """Return what a subscription whose next period is `period` has to be sent now.

    Its delay is taken off `now`: until then its run waits for its part of the spread, and is not
    late. Before the period, when the clock was set back, it is sent nothing. No period is mailed
    twice: the following one is always later.
    """
    if period > now:
        return Plan(None, period)
    is_late = now - period > LATE
    if missed is Missed.ALL and is_late:
        period = recurrence.last(now, period, MAX_MADE_UP)
    if missed is Missed.ALL or (missed is Missed.SKIP and not is_late):
        return Plan(period, recurrence.after(period))
    last = recurrence.last(now, period)
    skips = missed is Missed.SKIP and now - last > LATE
    return Plan(None if skips else last, recurrence.after(last))


def delay(subscription_id: str, spread: timedelta) -> timedelta:
    """Return how long after a period it is mailed: the same part of `spread` each time."""
    digest = blake2b(subscription_id.encode(), digest_size=4).digest()
    return spread * (int.from_bytes(digest, "big") / (1 << 32)) // _MILLISECOND * _MILLISECOND


def due_at(subscription_id: str, period: datetime, spread: timedelta) -> datetime:
    """Return when a period is mailed."""
    return period.astimezone(UTC) + delay(subscription_id, spread)


def shares(due: Collection[Key], limit: int, draw: Callable[[], float]) -> Mapping[Key, int]:
    """Return how many subscriptions of content types are mailed in a turn, some `limit` in all.

    Clients have equal parts of it, and so have the content types of each. If there are more than
    MAX_SHARES, each turn is of others, by the numbers that are drawn.
    """
    clients = defaultdict[str, list[Key]](list)
    for key in sorted(due, key=lambda _: draw()):
        clients[key[0]].append(key)
    mixed = sorted(clients.values(), key=lambda _: draw())
    keys = [key for key in chain.from_iterable(zip_longest(*mixed)) if key]
    keys = keys[: min(MAX_SHARES, limit)]
    counts = Counter(client for client, _ in keys)
    return {key: max(1, limit // len(counts) // counts[key[0]]) for key in keys}
