"""Guesses in the database: on record before they are compared, right at most once."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from services.otp.allowance import (
    FAILURE_WINDOW,
    CountedGuess,
    Guess,
    GuessBudget,
    GuessDecision,
    PastGuesses,
    UncheckedGuess,
)
from services.otp.challenge import Challenge, CodePolicy, CodeScope
from services.otp.tables import UNSEEN
from services.otp.tally import HOUR, WindowCounter
from services.otp.transaction import Cell, OtpTransaction


class CodeUse(NamedTuple):
    """A guess that was right, and the challenge that it is to use up."""

    guess: CountedGuess
    challenge: Challenge


def record(
    here: OtpTransaction, rules: CodePolicy, guesses: Sequence[Guess]
) -> Sequence[GuessDecision]:
    """Put guesses on record and give what each may be compared with, if it may be at all.

    A guess that is on record is given as it was, and counts no more. What is written does not
    depend on whether there is a challenge.
    """
    here.take_turns(guess.scope.recipient for guess in guesses)
    known = _known(here, guesses)
    new = {guess.ids[0]: guess for guess in guesses if not known.keys() & {*guess.ids}}
    if new:
        known |= _decided(here, rules, [*new.values()])
    return [next(known[id_] for id_ in guess.ids if id_ in known) for guess in guesses]


def use(here: OtpTransaction, uses: Sequence[CodeUse]) -> Collection[str]:
    """Use challenges up; give the one guess for each that does, however often it asks.

    What it was counted as a failure for, it is given back.
    """
    here.take_turns(each.challenge.scope.recipient for each in uses)
    used = here.rows(here.say.using, [(each.challenge.id, each.guess.id) for each in uses])
    winners = {row.used_by for row in used}
    here.rows(here.say.verifying, [(each,) for each in winners])
    late = {each.challenge.id for each in uses if each.guess.id not in winners}
    before = {row.used_by for row in here.rows(here.say.named, [(each,) for each in late])}
    # At the end, for others wait for these rows; in one order everywhere, without a turn: who
    # sees them a moment too late counts too many.
    _give_back(here, {each.guess.id: each.guess for each in uses if each.guess.id in winners})
    return winners | before


def allowance(here: OtpTransaction, rules: CodePolicy, recipients: Iterable[str]) -> GuessBudget:
    """Count what some recipients have guessed so far."""
    since = here.now - FAILURE_WINDOW
    past = here.rows(here.say.past, [(each,) for each in {*recipients}], since=since)
    return GuessBudget(rules, (PastGuesses(*row) for row in past))


def _known(here: OtpTransaction, guesses: Sequence[Guess]) -> dict[str, GuessDecision]:
    limits = {id_: guess.limits for guess in guesses for id_ in guess.ids}
    rows = here.rows(here.say.recorded, [(id_,) for id_ in limits])
    challenges = here.named(row.challenge_id for row in rows)
    return {
        row.id: CountedGuess(row.id, row.at, challenges.get(row.challenge_id), limits[row.id])
        for row in rows
    }


def _decided(
    here: OtpTransaction, rules: CodePolicy, new: Sequence[Guess]
) -> Mapping[str, GuessDecision]:
    alive = _alive(here, new)
    left = allowance(here, rules, (guess.scope.recipient for guess in new))
    # So late, since all guesses of a client take turns by this; and always after the recipients,
    # or two could wait for each other.
    here.take_turns(f"failures/{limit.subject}" for guess in new for limit in guess.limits)
    tally = _tally(here, new)
    judged = [_judged(guess, here.now, tally, left, alive.get(guess.scope)) for guess in new]
    pairs = [*zip(new, judged, strict=True)]
    rows = [_row(guess, end) for guess, end in pairs if isinstance(end, CountedGuess)]
    here.rows(here.say.recording, rows)
    here.rows(here.say.failing, _failure_rows(tally))
    return {guess.ids[0]: end for guess, end in pairs}


def _judged(
    guess: Guess, now: int, tally: WindowCounter, left: GuessBudget, challenge: Challenge | None
) -> GuessDecision:
    """Count a guess, unless its limits hold it back for what the asker did before."""
    if wait := tally.take(guess.limits):
        return UncheckedGuess(wait)
    return CountedGuess(guess.ids[0], now, left.grant(challenge), guess.limits)


def _tally(here: OtpTransaction, guesses: Sequence[Guess]) -> WindowCounter:
    subjects = {limit.subject for guess in guesses for limit in guess.limits}
    since = (here.now - FAILURE_WINDOW) // HOUR
    found = here.rows(here.say.failed, [(each,) for each in subjects], since=since)
    return WindowCounter((tuple(row) for row in found), here.now, HOUR)


def _failure_rows(tally: WindowCounter) -> Sequence[Sequence[Cell]]:
    return [(subject, tally.slot, failed) for subject, failed in sorted(tally.added.items())]


def _give_back(here: OtpTransaction, verified: Mapping[str, CountedGuess]) -> None:
    failures = Counter(
        (limit.subject, each.at // HOUR) for each in verified.values() for limit in each.limits
    )
    here.rows(here.say.failing, [(*slot, -count) for slot, count in sorted(failures.items())])


def _alive(here: OtpTransaction, guesses: Sequence[Guess]) -> Mapping[CodeScope, Challenge]:
    standing = here.standing(guess.scope.recipient for guess in guesses)
    return {each.scope: each for each in standing if each.is_in_time(here.now)}


def _row(guess: Guess, counted: CountedGuess) -> Sequence[Cell]:
    challenge_id = counted.challenge.id if counted.challenge else UNSEEN
    return (counted.id, counted.at, guess.scope.recipient, challenge_id, False)
