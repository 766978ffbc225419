"""Pure: how often something may happen, by name, in one process."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

MAX_NAMES = 10_000  # of addresses or clients; past it the one that is longest unused is forgotten


class LeakyBuckets:
    """A bucket for each name: it takes `size` drops, and loses one every `seconds`.

    Times are in seconds of one clock.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._room = size * seconds
        self._seconds = seconds
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Return the seconds until the bucket has room for a drop."""
        # The difference first: a large time plus and minus some seconds is not always itself.
        level = max(0.0, self._empty_at.get(name, now) - now)
        return max(0.0, level + self._seconds - self._room)

    def add(self, name: str, now: float) -> None:
        """Add a drop, whether there is room for it or not; it overflows unseen."""
        level = max(self._empty_at.get(name, now), now) + self._seconds
        self._empty_at[name] = min(level, now + self._room)
        self._empty_at.move_to_end(name)
        if len(self._empty_at) > MAX_NAMES:
            self._empty_at.popitem(last=False)


class MailBudget:
    """The octets of all mails that are being received; each is taken before it is kept."""

    def __init__(self, total: int) -> None:
        self.left = total

    @contextmanager
    def taking(self, most: int) -> Iterator["MailPart"]:
        """Yield the part of one mail, of at most `most` octets; it is free again at the end."""
        part = MailPart(self, most)
        try:
            yield part
        finally:
            self.left += part.taken


class MailPart:
    """The part of a budget that one mail has taken; it `is_full` if the mail was too big."""

    def __init__(self, budget: MailBudget, most: int) -> None:
        self._budget = budget
        self._most = most
        self._pieces: list[bytes] | None = []
        self.taken = 0
        self.is_full = False

    @property
    def octets(self) -> bytes | None:
        """The octets of the mail, None if there was no room for some."""
        return None if self._pieces is None else b"".join(self._pieces)

    def add(self, piece: bytes) -> None:
        """Keep octets, or forget the mail if there is no room for them."""
        if self._pieces is None:
            return
        self.is_full = self.taken + len(piece) > self._most
        if self.is_full or len(piece) > self._budget.left:
            self._pieces = None
            return
        self._budget.left -= len(piece)
        self.taken += len(piece)
        self._pieces.append(piece)
