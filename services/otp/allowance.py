"""Pure: which guesses may be compared with a code, and which are refused unseen."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.otp.challenge import Challenge, CodePolicy, CodeScope
from services.otp.limits import Limit

FAILURE_WINDOW = 24 * 3600 * 1000  # milliseconds, rolling; no challenge lives longer


@dataclass(frozen=True, slots=True)
class Guess:
    """A guess by its names, the newest first; under any of them it may be known already.

    `limits` are those on failures at all recipients.
    """

    ids: tuple[str, ...]
    scope: CodeScope
    limits: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True)
class CountedGuess:
    """A guess that is on record since `at`, and what it may be compared with, if anything.

    While it is not verified it is a failure by each of its `limits`.
    """

    id: str
    at: int
    challenge: Challenge | None
    limits: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True)
class UncheckedGuess:
    """A guess that was not even counted; `retry_after` is in milliseconds."""

    retry_after: int


GuessDecision = CountedGuess | UncheckedGuess


@dataclass(frozen=True, slots=True)
class PastGuesses:
    """So many guesses of one recipient at one challenge, all `verified` or none."""

    recipient: str
    challenge_id: str | None  # none if there are none
    verified: bool | None
    count: int


class GuessBudget:
    """What is left of the guesses at each challenge and of the failures of each recipient.

    A guess is a failure until it is verified: many at once get no more than one after the other.
    """

    def __init__(self, rules: CodePolicy, past: Iterable[PastGuesses]) -> None:
        self._rules = rules
        self._tries: Counter[str | None] = Counter()
        self._failures: Counter[str] = Counter()
        for each in past:
            self._tries[each.challenge_id] += each.count
            self._failures[each.recipient] += 0 if each.verified else each.count

    def is_exhausted(self, challenge_id: str) -> bool:
        """Whether no guess at a challenge is left."""
        return self._tries[challenge_id] >= self._rules.tries

    def grant(self, challenge: Challenge | None) -> Challenge | None:
        """Count a guess at a challenge and give it, or give none if no guess is left."""
        if challenge is None or self.is_exhausted(challenge.id):
            return None
        recipient = challenge.scope.recipient
        if self._failures[recipient] >= self._rules.failures:
            return None
        self._tries[challenge.id] += 1
        self._failures[recipient] += 1
        return challenge
