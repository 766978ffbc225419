"""Pure: whether a relay that does not serve us may be tried again (RFC 5321 4.5.4.1)."""

from collections.abc import Hashable
from dataclasses import dataclass

GROWTH = 2.0  # from one wait to the next
MAX_DOUBLINGS = 32  # keeps a year of failures within what a float can hold

SPREAD = 0.25  # of a rest, to either side: replicas do not come back all at once
DOUBTS = 2  # refusals in a row that may, each alone, be about the mail


MAX_SENDERS = 5000  # of one relay; of more those are forgotten that were noted longest ago
WITNESSES = 2  # senders, taken before and now refused, that make a relay suspect
REFUSALS = 2  # in a row, after which a sender's mail goes to other relays first
DECLINED_SECONDS = 300.0  # until the relay has its share of that sender's mail again


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first wait and the longest, in seconds."""

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """Tell how long to wait after one more failure than these in a row."""
        return min(self.first * GROWTH ** min(failures, MAX_DOUBLINGS), self.longest)


@dataclass(frozen=True, slots=True)
class NotAttempted:
    """The mail was not tried, for all relays rest; how many seconds until the first may be."""

    seconds: float


class CircuitBreaker:
    """The failures of one relay in a row, and until when it rests for them.

    Times are in seconds of whatever clock the caller has; `chance` is uniform in [0, 1).
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._failures = 0
        self._doubts = 0
        self._until = 0.0
        self._probed = False

    def wait(self, now: float) -> float:
        """Tell for how long not to try; 0 is now.

        After a rest one attempt is let through, and all others wait for how it ends.
        """
        left = max(0.0, self._until - now)
        return max(left, self._backoff.first) if self._probed else left

    def begin(self) -> None:
        """Note an attempt that `wait` has let through."""
        self._probed = self._failures > 0

    def end(self) -> None:
        """Note that the attempt is over, however it went."""
        self._probed = False

    def succeeded(self) -> None:
        """Forget all: the relay serves us."""
        self._failures = self._doubts = 0
        self._until = 0.0

    def failed(self, now: float, chance: float) -> bool:
        """Begin a rest; False if it had begun: attempts that ran side by side count once."""
        if now < self._until:
            return False
        seconds = self._backoff.after(self._failures)
        self._until = now + seconds * (1 + SPREAD * (2 * chance - 1))
        self._failures += 1
        return True

    def doubted(self, now: float, chance: float) -> bool:
        """Note a refusal that may be about one mail only; several in a row begin a rest."""
        self._doubts += 1
        return self._doubts >= DOUBTS and self.failed(now, chance)


class SenderRefusals:
    """The senders that one relay has taken at MAIL, and those that it has refused since.

    A refusal at MAIL concerns one mail (RFC 5321 4.2.1), and anybody can make addresses up that a
    relay refuses. So it counts against the relay only if the relay took that sender before, as
    it took others that it now refuses too, and if it has taken nobody since. A sender is whatever
    MAIL depends on; times are in seconds of one clock.
    """

    def __init__(self) -> None:
        self._taken: dict[Hashable, None] = {}  # the latest last
        self._witnesses: dict[Hashable, float] = {}  # taken before, refused since then
        self._declined: dict[Hashable, tuple[int, float]] = {}  # how often in a row, and when last

    def taken(self, sender: Hashable, begun: float) -> None:
        """Note that MAIL was accepted in an attempt that began at `begun`.

        A relay that takes anybody after it has refused a sender means that sender alone.
        """
        if self._witnesses:
            for each in [each for each, at in self._witnesses.items() if at <= begun]:
                del self._witnesses[each]
                self._taken.pop(each, None)
        if self._declined:
            self._declined.pop(sender, None)
        self._taken.pop(sender, None)
        self._taken[sender] = None
        _shorten(self._taken)

    def refused(self, sender: Hashable, now: float) -> bool:
        """Note that MAIL was not accepted; return whether that speaks against the relay."""
        times, _ = self._declined.pop(sender, (0, now))
        self._declined[sender] = times + 1, now
        _shorten(self._declined)
        if sender not in self._taken:
            return False
        self._witnesses.setdefault(sender, now)
        return self.suspicious

    @property
    def suspicious(self) -> bool:
        """Whether the relay refuses senders that it took before, and has taken nobody since."""
        return len(self._witnesses) >= max(1, min(WITNESSES, len(self._taken)))

    def suspects(self, sender: Hashable) -> bool:
        """Return whether the relay, not the sender, may be the cause of the sender's refusal."""
        return sender in self._taken or self.suspicious

    def declines(self, sender: Hashable, now: float) -> bool:
        """Return whether other relays are to be asked first for this sender."""
        times, last = self._declined.get(sender, (0, now))
        return times >= REFUSALS and now < last + DECLINED_SECONDS


def _shorten(senders: dict[Hashable, None] | dict[Hashable, tuple[int, float]]) -> None:
    if len(senders) > MAX_SENDERS:
        del senders[next(iter(senders))]
