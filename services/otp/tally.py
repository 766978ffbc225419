"""Pure: mails counted by the minute, and how long a limit holds."""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.otp.limits import Limit

MINUTE = 60_000  # milliseconds


def minute_of(now: int) -> int:
    """Give the minute of a time in milliseconds."""
    return now // MINUTE


class Tally:
    """Mails by subject and minute; `now` is in milliseconds since 1970.

    A minute counts as a whole, so that never more than a limit's count fall into its time; the
    price is that a limit may hold up to a minute longer.
    """

    def __init__(self, counted: Iterable[tuple[str, int, int]], now: int) -> None:
        self._minute = minute_of(now)
        self._into_it = now % MINUTE
        self._counts: dict[str, Counter[int]] = {}
        self._added: Counter[str] = Counter()
        for subject, minute, count in counted:
            self._counts.setdefault(subject, Counter())[minute] += count

    @property
    def minute(self) -> int:
        """The minute that it is now."""
        return self._minute

    @property
    def added(self) -> Mapping[str, int]:
        """How many mails of this minute were added, by subject."""
        return self._added

    def add(self, subjects: Iterable[str]) -> None:
        """Count one mail."""
        for subject in subjects:
            self._counts.setdefault(subject, Counter())[self._minute] += 1
            self._added[subject] += 1

    def wait(self, limit: Limit) -> int:
        """Give the milliseconds until a limit lets one more mail pass, 0 if it does now."""
        counts = self._counts.get(limit.subject, Counter())
        recent = sorted(each for each in counts if each >= self._minute - limit.minutes)
        left = sum(counts[minute] for minute in recent)
        wait = 0
        for minute in recent:
            if left < limit.count:
                break
            left -= counts[minute]
            # The minute counts until all of it lies as far back as the limit reaches.
            wait = (minute + limit.minutes + 1 - self._minute) * MINUTE - self._into_it
        return wait
