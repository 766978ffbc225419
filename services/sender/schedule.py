"""When a mail is tried again, and when it is given up."""

from dataclasses import dataclass

from shared.contracts.fields import MAX_ATTEMPTS
from shared.retry import SPREAD

BACKOFF_GROWTH = 2.0  # from one wait to the next
MAX_DOUBLINGS = 32  # keeps a year of failures within what a float can hold


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double with each failure (RFC 5321 4.5.4.1), in seconds."""

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """Return the wait after one failure more than `failures` in a row."""
        return min(self.first * BACKOFF_GROWTH ** min(failures, MAX_DOUBLINGS), self.longest)


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """A mail's number of attempts (from 1), and its age in seconds since its acceptance.

    `left` is the time until its own expiry in seconds, `retries` the number of further attempts
    that its command allows in all; None without such a limit.
    """

    attempts: int
    age: float
    left: float | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The waits of one sending class, in seconds.

    `give_up` counts from the mail's acceptance by Postrider. A mail that the relay may have
    accepted is tried again only if `retries_uncertain`.
    """

    first: float
    longest: float
    give_up: float
    retries_uncertain: bool

    def wait_after(self, history: AttemptHistory, requested: float | None = None) -> float | None:
        """Return the wait after a failed attempt, None to give up.

        A wait that the server `requested` takes precedence over our own, unless the mail would
        then come too late. A mail whose next attempt would come too late is given up at once.
        """
        if history.retries is not None and history.attempts > history.retries:
            return None
        if history.attempts >= MAX_ATTEMPTS:  # the limit of the contract
            return None
        if requested is not None:
            # A delay may be shorter by SPREAD, and a mail that comes early is refused again.
            wait = requested / (1 - SPREAD)
            if self.in_time(history, wait):
                return wait
        wait = Backoff(self.first, self.longest).after(history.attempts - 1)
        return wait if self.in_time(history, wait) else None

    def in_time(self, history: AttemptHistory, wait: float) -> bool:
        """Return whether an attempt after `wait` seconds comes before the mail is given up."""
        in_time = history.age + wait <= self.give_up
        return in_time and (history.left is None or wait < history.left)
