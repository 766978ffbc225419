"""Pure: whether a relay that does not serve us may be tried again (RFC 5321 4.5.4.1)."""

from dataclasses import dataclass

from services.sender.smtp.backoff import Backoff

SPREAD = 0.25  # of a rest, to either side: replicas do not come back all at once
DOUBTS = 2  # refusals in a row that may, each alone, be about the mail


@dataclass(frozen=True, slots=True)
class Postponed:
    """The mail was not tried, for all relays rest; how many seconds until the first may be."""

    seconds: float


class Rest:
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
