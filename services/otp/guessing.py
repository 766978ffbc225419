"""Guesses: recorded before they are compared with a code, and right at most once."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from services.otp import sql
from services.otp.codes import Challenge, CodePolicy, CodeScope
from services.otp.limits import DAY_MS, HOUR_MS, Limit, WindowCounter
from services.otp.sql import UNSEEN, OtpTransaction

FAILURE_WINDOW_MS = DAY_MS  # rolling; no challenge lives longer


@dataclass(frozen=True, slots=True)
class Guess:
    """A guess by its names, the newest first; it may be known already under any of them.

    `limits` are those on failures at all recipients.
    """

    ids: tuple[str, ...]
    scope: CodeScope
    limits: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True)
class CountedGuess:
    """A guess that was recorded at `at`, and the challenge that it may be compared with, if any.

    Until it is verified it is a failure by each of its `limits`.
    """

    id: str
    at: int
    challenge: Challenge | None
    limits: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True)
class UncheckedGuess:
    """A guess that a limit refused, and that was not counted; `retry_after` is in milliseconds."""

    retry_after: int


GuessDecision = CountedGuess | UncheckedGuess


class CodeUse(NamedTuple):
    """A right guess, and the challenge that it is to use up."""

    guess: CountedGuess
    challenge: Challenge


class GuessBudget:
    """The guesses left at each challenge, and the failures left to each recipient.

    A guess is a failure until it is verified, so that many guesses at once get no more than one
    after the other. A row of `past` is a recipient, the id of a challenge, whether the guesses
    were verified, and their number.
    """

    def __init__(self, policy: CodePolicy, past: Iterable[Sequence[Any]]) -> None:
        self._policy = policy
        self._tries: Counter[str | None] = Counter()
        self._failures: Counter[str] = Counter()
        for recipient, challenge_id, verified, count in past:
            self._tries[challenge_id] += count
            self._failures[recipient] += 0 if verified else count

    def is_exhausted(self, challenge_id: str) -> bool:
        """Return whether no guess at a challenge is left."""
        return self._tries[challenge_id] >= self._policy.tries

    def grant(self, challenge: Challenge | None) -> Challenge | None:
        """Count a guess at a challenge and return it, or None if no guess is left."""
        if challenge is None or self.is_exhausted(challenge.id):
            return None
        recipient = challenge.scope.recipient
        if self._failures[recipient] >= self._policy.failures:
            return None
        self._tries[challenge.id] += 1
        self._failures[recipient] += 1
        return challenge


def record(
    tx: OtpTransaction, policy: CodePolicy, guesses: Sequence[Guess]
) -> Sequence[GuessDecision]:
    """Record guesses and return the decision on each, in their order.

    A recorded guess has its first decision again and counts no more. The writes do not depend on
    whether there is a challenge.
    """
    tx.lock(guess.scope.recipient for guess in guesses)
    known = _known(tx, guesses)
    new = {guess.ids[0]: guess for guess in guesses if not known.keys() & {*guess.ids}}
    if new:
        known |= _decide(tx, policy, [*new.values()])
    return [next(known[id_] for id_ in guess.ids if id_ in known) for guess in guesses]


def use(tx: OtpTransaction, uses: Sequence[CodeUse]) -> Collection[str]:
    """Use challenges up; return the ids of the one guess for each that has used it.

    These guesses stop counting as failures. A repeated use has the result of the first.
    """
    tx.lock(each.challenge.scope.recipient for each in uses)
    rows = [(each.challenge.id, each.guess.id) for each in uses]
    winners = {row.used_by for row in tx.run(sql.USE_CHALLENGES, rows, tx.now)}
    tx.run(sql.SET_VERIFIED, [(each,) for each in winners])
    late = {each.challenge.id for each in uses if each.guess.id not in winners}
    earlier = {row.used_by for row in tx.run(sql.FIND_CHALLENGES, [(each,) for each in late])}
    # At the end, since others wait for these rows, and in one order everywhere. Without a lock: a
    # transaction that sees them a moment too late counts too many.
    _give_back(tx, {each.guess.id: each.guess for each in uses if each.guess.id in winners})
    return winners | earlier


def budget(tx: OtpTransaction, policy: CodePolicy, recipients: Iterable[str]) -> GuessBudget:
    """Count the guesses of some recipients so far."""
    rows = [(each,) for each in {*recipients}]
    return GuessBudget(policy, tx.run(sql.COUNT_GUESSES, rows, tx.now - FAILURE_WINDOW_MS))


def _known(tx: OtpTransaction, guesses: Sequence[Guess]) -> dict[str, GuessDecision]:
    limits = {id_: guess.limits for guess in guesses for id_ in guess.ids}
    rows = tx.run(sql.FIND_GUESSES, [(id_,) for id_ in limits])
    challenges = tx.challenges(row.challenge_id for row in rows)
    return {
        row.id: CountedGuess(row.id, row.at, challenges.get(row.challenge_id), limits[row.id])
        for row in rows
    }


def _decide(
    tx: OtpTransaction, policy: CodePolicy, new: Sequence[Guess]
) -> Mapping[str, GuessDecision]:
    standing = tx.standing(guess.scope.recipient for guess in new)
    alive = {each.scope: each for each in standing if each.is_in_time(tx.now)}
    left = budget(tx, policy, (guess.scope.recipient for guess in new))
    # Late, since all guesses of a client wait for this lock; and always after the recipients', or
    # two transactions could wait for each other.
    tx.lock(f"failures/{limit.subject}" for guess in new for limit in guess.limits)
    failures = _failures(tx, new)
    decisions = {
        guess.ids[0]: _decision(guess, tx.now, failures, left, alive.get(guess.scope))
        for guess in new
    }
    tx.run(sql.RECORD_GUESSES, _guess_rows(new, decisions))
    added = sorted(failures.added.items())
    tx.run(sql.COUNT_FAILURES, [(subject, failures.slot, count) for subject, count in added])
    return decisions


def _decision(
    guess: Guess, now: int, failures: WindowCounter, left: GuessBudget, challenge: Challenge | None
) -> GuessDecision:
    """Count a guess, unless its limits hold it back for earlier failures."""
    if wait := failures.take(guess.limits):
        return UncheckedGuess(wait)
    return CountedGuess(guess.ids[0], now, left.grant(challenge), guess.limits)


def _failures(tx: OtpTransaction, guesses: Sequence[Guess]) -> WindowCounter:
    subjects = {limit.subject for guess in guesses for limit in guess.limits}
    since = (tx.now - FAILURE_WINDOW_MS) // HOUR_MS
    found = tx.run(sql.FIND_FAILURES, [(each,) for each in subjects], since)
    return WindowCounter(found, tx.now, HOUR_MS)


def _give_back(tx: OtpTransaction, verified: Mapping[str, CountedGuess]) -> None:
    failures = Counter(
        (limit.subject, each.at // HOUR_MS) for each in verified.values() for limit in each.limits
    )
    tx.run(sql.COUNT_FAILURES, [(*slot, -count) for slot, count in sorted(failures.items())])


def _guess_rows(
    guesses: Sequence[Guess], decisions: Mapping[str, GuessDecision]
) -> Sequence[tuple[str, int, str, str]]:
    pairs = ((guess, decisions[guess.ids[0]]) for guess in guesses)
    return [
        (end.id, end.at, guess.scope.recipient, end.challenge.id if end.challenge else UNSEEN)
        for guess, end in pairs
        if isinstance(end, CountedGuess)
    ]
