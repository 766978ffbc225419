"""Pure: when a mail is tried again, and when it is given up."""

from dataclasses import dataclass

from services.sender.smtp.circuit_breaker import Backoff
from shared.contracts.fields import MAX_ATTEMPTS
from shared.retry import SPREAD


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """What is behind a mail: attempts (from 1), seconds since it was accepted.

    `left` is what remains until its own expiry in seconds, `retries` how many further attempts
    its command allows in all; None where it says nothing.
    """

    attempts: int
    age: float
    left: float | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The waits of one sending class, all in seconds.

    `give_up` counts from when the mail was accepted. A mail whose acceptance by the relay is
    uncertain is tried again only if `retries_uncertain`.
    """

    first: float
    longest: float
    give_up: float
    retries_uncertain: bool

    def wait_after(self, tried: AttemptHistory, asked: float | None = None) -> float | None:
        """Tell how long to wait after a failed attempt, None to give up.

        What the server `asked` for goes before our own wait, unless the mail would then come too
        late. An attempt that would come too late is not waited for.
        """
        if tried.retries is not None and tried.attempts > tried.retries:
            return None
        if tried.attempts >= MAX_ATTEMPTS:  # the contract has no room for another
            return None
        if asked is not None:
            # The ladder may come early by its spread, and who comes early is refused again.
            wait = asked / (1 - SPREAD)
            if self.in_time(tried, wait):
                return wait
        wait = Backoff(self.first, self.longest).after(tried.attempts - 1)
        return wait if self.in_time(tried, wait) else None

    def in_time(self, tried: AttemptHistory, wait: float) -> bool:
        """Tell whether an attempt after `wait` seconds would not come too late."""
        return tried.age + wait <= self.give_up and (tried.left is None or wait < tried.left)
