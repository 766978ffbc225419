"""Pure: when a mail is tried again, and when it is given up."""

from dataclasses import dataclass

GROWTH = 2.0  # from one wait to the next; the spread comes from the delay ladder
MAX_DOUBLINGS = 32  # keeps an absurd attempt number within what a float can hold


@dataclass(frozen=True, slots=True)
class Schedule:
    """The waits of one sending class, all in seconds.

    `give_up` counts from when the mail was accepted. A mail whose acceptance by the relay is
    uncertain is tried again only if `retries_uncertain`.
    """

    first: float
    longest: float
    give_up: float
    retries_uncertain: bool

    def wait_after(self, attempt: int, age: float, left: float | None) -> float | None:
        """Tell how long to wait after the failed `attempt` (from 1), None to give up.

        `age` is that of the mail, `left` what remains until its own expiry, if it has one. An
        attempt that would come too late is not waited for.
        """
        wait = min(self.first * GROWTH ** min(attempt - 1, MAX_DOUBLINGS), self.longest)
        if age + wait > self.give_up or (left is not None and wait >= left):
            return None
        return wait
