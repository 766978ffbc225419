"""Guesses in the database: on record before they are compared, right at most once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.otp.allowance import FAILURE_WINDOW, Allowance, Counted, Guess, Past
from services.otp.challenge import Challenge, Holder, Rules
from services.otp.tables import UNSEEN
from services.otp.transaction import Cell, Transaction


class Use(NamedTuple):
    """A guess that was right, and the challenge that it is to use up."""

    guess_id: str
    challenge: Challenge


def record(here: Transaction, rules: Rules, guesses: Sequence[Guess]) -> Sequence[Counted]:
    """Put guesses on record and give what each may be compared with, if it may be at all.

    A guess that is on record is given as it was, and counts no more. What is written does not
    depend on whether there is a challenge.
    """
    here.take_turns(guess.holder.recipient for guess in guesses)
    known = _known(here, guesses)
    new = {guess.ids[0]: guess for guess in guesses if not known.keys() & {*guess.ids}}
    if new:
        known |= _granted(here, rules, [*new.values()])
    return [next(known[id_] for id_ in guess.ids if id_ in known) for guess in guesses]


def use(here: Transaction, uses: Sequence[Use]) -> Sequence[bool]:
    """Use challenges up; True for the one guess that does, however often it asks."""
    here.take_turns(use.challenge.holder.recipient for use in uses)
    used = here.rows(here.say.using, [(each.challenge.id, each.guess_id) for each in uses])
    winners = {row.used_by for row in used}
    here.rows(here.say.verifying, [(each,) for each in winners])
    late = {each.challenge.id for each in uses if each.guess_id not in winners}
    winners |= {row.used_by for row in here.rows(here.say.named, [(each,) for each in late])}
    return [each.guess_id in winners for each in uses]


def allowance(here: Transaction, rules: Rules, recipients: Iterable[str]) -> Allowance:
    """Count what some recipients have guessed so far."""
    since = here.now - FAILURE_WINDOW
    past = here.rows(here.say.past, [(each,) for each in {*recipients}], since=since)
    return Allowance(rules, (Past(*row) for row in past))


def _known(here: Transaction, guesses: Sequence[Guess]) -> dict[str, Counted]:
    ids = {id_ for guess in guesses for id_ in guess.ids}
    rows = here.rows(here.say.recorded, [(id_,) for id_ in ids])
    challenges = here.named(row.challenge_id for row in rows)
    return {row.id: Counted(row.id, row.at, challenges.get(row.challenge_id)) for row in rows}


def _granted(here: Transaction, rules: Rules, new: Sequence[Guess]) -> Mapping[str, Counted]:
    alive = _alive(here, new)
    left = allowance(here, rules, (guess.holder.recipient for guess in new))
    counted = [
        Counted(guess.ids[0], here.now, left.grant(alive.get(guess.holder))) for guess in new
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
