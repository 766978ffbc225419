"""Pure: which delay a message waits, and when to give up."""

from dataclasses import dataclass
from itertools import pairwise

from shared.contracts import Contract

MAX_ATTEMPTS = 10  # of one delivery that fails; the waits between them add up to some 14 hours
FIRST_WAIT_SECONDS = 5.0
WAIT_GROWTH = 4.0  # from one wait to the next
SPREAD = 0.2  # a fifth either way, so that what failed together does not come back together


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay queue, `name`, that holds each message for `seconds`."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reschedule:
    """A handler's request to have `message` in its own queue again after about `seconds`."""

    message: Contract
    seconds: float


DELAYS: tuple[Delay, ...] = (
    Delay("delay.5s", 5),
    Delay("delay.15s", 15),
    Delay("delay.1m", 60),
    Delay("delay.5m", 300),
    Delay("delay.15m", 900),
    Delay("delay.1h", 3600),
    Delay("delay.4h", 14400),
)


def wait_after(attempt: int, requested: float | None = None) -> float | None:
    """Return the seconds to wait after the failed `attempt` (from 1), None to give up.

    The wait grows four times with each attempt, from five seconds on. A wait that the handler
    `requested` takes precedence.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    if requested is not None:
        return requested
    return min(FIRST_WAIT_SECONDS * WAIT_GROWTH ** (attempt - 1), DELAYS[-1].seconds)


def choose_delay(seconds: float, chance: float, turn: float) -> Delay:
    """Choose the delay for a wait of about `seconds`; `chance` and `turn` are uniform in [0, 1).

    The wait is first spread by `chance`. Then `turn` chooses one of the two delays around it, the
    nearer one more often, so that the mean is the wait asked for. A wait outside all delays gets
    the shortest or the longest.
    """
    wanted = seconds * (1 + SPREAD * (2 * chance - 1))
    for lower, upper in pairwise(DELAYS):
        if wanted <= lower.seconds:
            return lower
        if wanted < upper.seconds:
            share = (wanted - lower.seconds) / (upper.seconds - lower.seconds)
            return upper if turn < share else lower
    return DELAYS[-1]
