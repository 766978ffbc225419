"""Pure: which delay a message waits, and when to give up."""

from dataclasses import dataclass
from itertools import pairwise

from shared.contracts import Contract

MAX_ATTEMPTS = 10  # of one delivery that fails; the waits below then add up to some 14 hours
FIRST_WAIT = 5.0  # seconds
GROWTH = 4.0  # from one wait to the next
SPREAD = 0.2  # a fifth either way, so that what failed together does not come back together


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of the delay ladder: the queue `name` holds a message for `seconds`."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Later:
    """A handler's wish: `message` comes back to the handler's own queue after about `seconds`."""

    message: Contract
    seconds: float


LADDER: tuple[Step, ...] = (
    Step("delay.5s", 5),
    Step("delay.15s", 15),
    Step("delay.1m", 60),
    Step("delay.5m", 300),
    Step("delay.15m", 900),
    Step("delay.1h", 3600),
    Step("delay.4h", 14400),
)


def wait_after(attempt: int, wish: float | None = None) -> float | None:
    """Tell how many seconds to wait after the failed `attempt` (from 1), None to give up.

    Four times as long each time, from five seconds on; a handler's own `wish` goes before it.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    if wish is not None:
        return wish
    return min(FIRST_WAIT * GROWTH ** (attempt - 1), LADDER[-1].seconds)


def choose_step(seconds: float, chance: float, turn: float) -> Step:
    """Choose the rung for a wait of about `seconds`; `chance` and `turn` are uniform in [0, 1).

    The wait is first spread by `chance`; then `turn` takes one of the two rungs around it, the
    nearer one more often, so that on average the wait is as wished. Outside the ladder it is the
    first or the last rung.
    """
    wanted = seconds * (1 + SPREAD * (2 * chance - 1))
    for lower, upper in pairwise(LADDER):
        if wanted <= lower.seconds:
            return lower
        if wanted < upper.seconds:
            share = (wanted - lower.seconds) / (upper.seconds - lower.seconds)
            return upper if turn < share else lower
    return LADDER[-1]
