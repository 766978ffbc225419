"""Whether a relay that does not serve us may be tried again (RFC 5321 4.5.4.1)."""

from collections.abc import Hashable

from services.sender.schedule import Backoff

PAUSE_JITTER = 0.25  # of a pause, either way: replicas do not come back all at once
MAX_DOUBTS = 2  # refusals in a row that may, each alone, be about the mail

MAX_SENDERS = 5000  # remembered of one relay; the oldest are forgotten first
MIN_WITNESSES = 2  # senders, accepted before and now refused, that make a relay suspect
MAX_REFUSALS = 2  # in a row, after which a sender's mail goes to other relays first
REFUSED_SECONDS = 300.0  # until the relay gets its share of that sender's mail again


class CircuitBreaker:
    """The failures of one relay in a row, and the pause in which it is not tried.

    Times are in seconds of any clock of the caller; `chance` is uniform in [0, 1).
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._failures = 0
        self._doubts = 0
        self._until = 0.0
        self._probing = False

    def wait(self, now: float) -> float:
        """Return for how many seconds not to try; 0 is now.

        After a pause one attempt is let through, and all others wait for its result.
        """
        left = max(0.0, self._until - now)
        return max(left, self._backoff.first) if self._probing else left

    @property
    def failures(self) -> int:
        """The failures in a row."""
        return self._failures

    def begin(self) -> None:
        """Record an attempt that `wait` has let through."""
        self._probing = self._failures > 0

    def end(self) -> None:
        """Record the end of an attempt, whatever its result."""
        self._probing = False

    def succeeded(self) -> None:
        """Forget all failures: the relay serves us."""
        self._failures = self._doubts = 0
        self._until = 0.0

    def failed(self, now: float, chance: float) -> bool:
        """Begin a pause and return True; False in a pause: parallel failures count once."""
        if now < self._until:
            return False
        seconds = self._backoff.after(self._failures)
        self._until = now + seconds * (1 + PAUSE_JITTER * (2 * chance - 1))
        self._failures += 1
        return True

    def doubted(self, now: float, chance: float) -> bool:
        """Record a refusal that may be about one mail only; MAX_DOUBTS in a row are a failure."""
        self._doubts += 1
        return self._doubts >= MAX_DOUBTS and self.failed(now, chance)


class SenderRefusals:
    """The senders that one relay has accepted at MAIL, and those that it has refused since.

    A refusal at MAIL concerns one mail (RFC 5321 4.2.1), and anybody can invent addresses that a
    relay refuses. So it counts against the relay only if the relay has accepted that sender before,
    refuses other accepted senders too, and has accepted no sender since. A sender is all that MAIL
    depends on; times are in seconds of one clock.
    """

    def __init__(self) -> None:
        self._accepted: dict[Hashable, None] = {}  # the latest last
        self._witnesses: dict[Hashable, float] = {}  # accepted before, refused since then
        self._refused: dict[Hashable, tuple[int, float]] = {}  # how often in a row, the last time

    def accepted(self, sender: Hashable, begun: float) -> None:
        """Record that MAIL was accepted in an attempt that began at `begun`.

        A relay that accepts any sender after a refusal has meant the refused sender alone.
        """
        if self._witnesses:
            for each in [each for each, at in self._witnesses.items() if at <= begun]:
                del self._witnesses[each]
                self._accepted.pop(each, None)
        if self._refused:
            self._refused.pop(sender, None)
        self._accepted.pop(sender, None)
        self._accepted[sender] = None
        _shorten(self._accepted)

    def refused(self, sender: Hashable, now: float) -> bool:
        """Record that MAIL was refused; return whether that counts against the relay."""
        times, _ = self._refused.pop(sender, (0, now))
        self._refused[sender] = times + 1, now
        _shorten(self._refused)
        if sender not in self._accepted:
            return False
        self._witnesses.setdefault(sender, now)
        return self.suspicious

    @property
    def suspicious(self) -> bool:
        """Whether the relay refuses senders that it accepted before, and accepts none now."""
        return len(self._witnesses) >= max(1, min(MIN_WITNESSES, len(self._accepted)))

    def suspects(self, sender: Hashable) -> bool:
        """Return whether the relay may be the cause of the refusal, not the sender."""
        return sender in self._accepted or self.suspicious

    def avoids(self, sender: Hashable, now: float) -> bool:
        """Return whether other relays come first for this sender."""
        times, last = self._refused.get(sender, (0, now))
        return times >= MAX_REFUSALS and now < last + REFUSED_SECONDS


def _shorten(senders: dict[Hashable, None] | dict[Hashable, tuple[int, float]]) -> None:
    if len(senders) > MAX_SENDERS:
        del senders[next(iter(senders))]
