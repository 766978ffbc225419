"""Pure: mails counted by the minute, failures by the hour, and how long a limit holds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from services.otp.limits import Limit

MINUTE = 60_000  # milliseconds
HOUR = 60 * MINUTE


class WindowCounter:
    """Mails or failures by subject and slot of time, counted from 1970 on.

    `now` and the length of a slot are in milliseconds. A slot counts as a whole, so that never
    more than a limit's count fall into its time; the price is that a limit may hold up to a slot
    longer.
    """

    def __init__(
        self, counted: Iterable[tuple[str, int, int]], now: int, length: int = MINUTE
    ) -> None:
        self._length = length
        self._slot, self._into_it = divmod(now, length)
        self._counts = defaultdict[str, Counter[int]](Counter)
        self._sums = dict[str, int]()
        self._added = dict[str, int]()
        for subject, slot, count in counted:
            self._counts[subject][slot] += count
            self._sums[subject] = self._sums.get(subject, 0) + count

    @property
    def slot(self) -> int:
        """The slot that it is now."""
        return self._slot

    @property
    def added(self) -> Mapping[str, int]:
        """How many of this slot were added, by subject."""
        return self._added

    def take(self, limits: Sequence[Limit]) -> int:
        """Count one if all limits let it pass, else give the milliseconds until they do."""
        wait = max([self.wait(each) for each in limits], default=0)
        if not wait:
            self.add([each.subject for each in limits])
        return wait

    def add(self, subjects: Iterable[str]) -> None:
        """Count one."""
        for subject in subjects:
            self._added[subject] = self._added.get(subject, 0) + 1

    def wait(self, limit: Limit) -> int:
        """Give the milliseconds until a limit lets one more pass, 0 if it does now."""
        subject = limit.subject
        # As nearly always; nobody is to wait while all the slots are looked at.
        if self._sums.get(subject, 0) + self._added.get(subject, 0) < limit.count:
            return 0
        return self._until_passed(limit)

    def _until_passed(self, limit: Limit) -> int:
        added = self._added.get(limit.subject, 0)
        counts = self._counts[limit.subject] + Counter({self._slot: added})
        slots = limit.minutes * MINUTE // self._length
        recent = sorted(each for each in counts if each >= self._slot - slots)
        left = sum(counts[slot] for slot in recent)
        wait = 0
        for slot in recent:
            if left < limit.count:
                break
            left -= counts[slot]
            # The slot counts until all of it lies as far back as the limit reaches.
            wait = (slot + slots + 1 - self._slot) * self._length - self._into_it
        return wait
