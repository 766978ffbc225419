"""Guesses in the database: on record before they are compared, right at most once."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from services.otp.allowance import (
    FAILURE_WINDOW,
    Allowance,
    Counted,
    Guess,
    Judged,
    Past,
    Unchecked,
)
from services.otp.challenge import Challenge, Holder, Rules
from services.otp.limits import Limit
from services.otp.tables import UNSEEN
from services.otp.tally import HOUR, Tally
from services.otp.transaction import Cell, Transaction


class Use(NamedTuple):
    """A guess that was right, and the challenge that it is to use up."""

    guess: Counted
    challenge: Challenge


def record(here: Transaction, rules: Rules, guesses: Sequence[Guess]) -> Sequence[Judged]:
    """Put guesses on record and give what each may be compared with, if it may be at all.

    A guess that is on record is given as it was, and counts no more. What is written does not
    depend on whether there is a challenge.
    """
    _take_turns(here, ((guess.holder, guess.limits) for guess in guesses))
    known = _known(here, guesses)
    new = {guess.ids[0]: guess for guess in guesses if not known.keys() & {*guess.ids}}
    if new:
        known |= _decided(here, rules, [*new.values()])
    return [next(known[id_] for id_ in guess.ids if id_ in known) for guess in guesses]


def use(here: Transaction, uses: Sequence[Use]) -> Collection[str]:
    """Use challenges up; give the one guess for each that does, however often it asks.

    What it was counted as a failure for, it is given back.
    """
    _take_turns(here, ((each.challenge.holder, each.guess.limits) for each in uses))
    used = here.rows(here.say.using, [(each.challenge.id, each.guess.id) for each in uses])
    winners = {row.used_by for row in used}
    here.rows(here.say.verifying, [(each,) for each in winners])
    _give_back(here, {each.guess.id: each.guess for each in uses if each.guess.id in winners})
    late = {each.challenge.id for each in uses if each.guess.id not in winners}
    return winners | {row.used_by for row in here.rows(here.say.named, [(each,) for each in late])}


def allowance(here: Transaction, rules: Rules, recipients: Iterable[str]) -> Allowance:
    """Count what some recipients have guessed so far."""
    since = here.now - FAILURE_WINDOW
    past = here.rows(here.say.past, [(each,) for each in {*recipients}], since=since)
    return Allowance(rules, (Past(*row) for row in past))


def _take_turns(here: Transaction, whose: Iterable[tuple[Holder, Sequence[Limit]]]) -> None:
    here.take_turns(
        name
        for holder, limits in whose
        for name in (holder.recipient, *(f"failures/{each.subject}" for each in limits))
    )


def _known(here: Transaction, guesses: Sequence[Guess]) -> dict[str, Judged]:
    limits = {id_: guess.limits for guess in guesses for id_ in guess.ids}
    rows = here.rows(here.say.recorded, [(id_,) for id_ in limits])
    challenges = here.named(row.challenge_id for row in rows)
    return {
        row.id: Counted(row.id, row.at, challenges.get(row.challenge_id), limits[row.id])
        for row in rows
    }


def _decided(here: Transaction, rules: Rules, new: Sequence[Guess]) -> Mapping[str, Judged]:
    """Count what no limit on failures holds back.

    The others are held back for what the asker did, and so learns nothing by: before anything is
    looked up for their recipients.
    """
    tally = _tally(here, new)
    waits = [tally.take(guess.limits) for guess in new]
    passed = [guess for guess, wait in zip(new, waits, strict=True) if not wait]
    here.rows(here.say.failing, _failure_rows(tally))
    held = {guess.ids[0]: Unchecked(wait) for guess, wait in zip(new, waits, strict=True) if wait}
    return {**held, **_granted(here, rules, passed)}


def _tally(here: Transaction, guesses: Sequence[Guess]) -> Tally:
    subjects = {limit.subject for guess in guesses for limit in guess.limits}
    since = (here.now - FAILURE_WINDOW) // HOUR
    found = here.rows(here.say.failed, [(each,) for each in subjects], since=since)
    return Tally((tuple(row) for row in found), here.now, HOUR)


def _failure_rows(tally: Tally) -> Sequence[Sequence[Cell]]:
    return [(subject, tally.slot, failed) for subject, failed in sorted(tally.added.items())]


def _give_back(here: Transaction, verified: Mapping[str, Counted]) -> None:
    failures = Counter(
        (limit.subject, each.at // HOUR) for each in verified.values() for limit in each.limits
    )
    here.rows(here.say.failing, [(*slot, -count) for slot, count in sorted(failures.items())])


def _granted(here: Transaction, rules: Rules, new: Sequence[Guess]) -> Mapping[str, Counted]:
    alive = _alive(here, new)
    left = allowance(here, rules, (guess.holder.recipient for guess in new))
    counted = [
        Counted(guess.ids[0], here.now, left.grant(alive.get(guess.holder)), guess.limits)
        for guess in new
    ]
    rows = [_row(guess, each) for guess, each in zip(new, counted, strict=True)]
    here.rows(here.say.recording, rows)
    return {each.id: each for each in counted}


def _alive(here: Transaction, guesses: Sequence[Guess]) -> Mapping[Holder, Challenge]:
    standing = here.standing(guess.holder.email for guess in guesses)
    return {each.holder: each for each in standing if each.is_in_time(here.now)}


def _row(guess: Guess, counted: Counted) -> Sequence[Cell]:
    challenge_id = counted.challenge.id if counted.challenge else UNSEEN
    return (counted.id, counted.at, guess.holder.recipient, challenge_id, False)
