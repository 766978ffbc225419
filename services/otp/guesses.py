"""Guesses in the database: on record before they are compared, right at most once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.otp.allowance import FAILURE_WINDOW, Allowance, Counted, Guess, Past
from services.otp.challenge import Challenge, Holder, Rules
from services.otp.transaction import Transaction


class Use(NamedTuple):
    """A guess that was right, and the challenge that it is to use up."""

    guess_id: bytes
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
    ordered = sorted(uses, key=lambda use: use.challenge.id)
    here.each(
        here.say.using,
        [{"of_id": each.challenge.id, "new_used_by": each.guess_id} for each in ordered],
    )
    here.each(here.say.verifying, [{"of_guess": each.guess_id} for each in ordered])
    users = here.rows(here.say.users, ids=list({each.challenge.id for each in ordered}))
    winners = {row.used_by for row in users}
    return [each.guess_id in winners for each in uses]


def allowance(here: Transaction, rules: Rules, recipients: Sequence[str]) -> Allowance:
    """Count what some recipients have guessed so far."""
    since = here.now - FAILURE_WINDOW
    past = here.rows(here.say.past, recipients=recipients, since=since)
    return Allowance(rules, (Past(*row) for row in past))


def _known(here: Transaction, guesses: Sequence[Guess]) -> dict[bytes, Counted]:
    ids = [id_ for guess in guesses for id_ in guess.ids]
    rows = here.rows(here.say.recorded, ids=ids)
    challenges = here.named(row.challenge_id for row in rows)
    return {row.id: Counted(row.id, row.at, challenges.get(row.challenge_id)) for row in rows}


def _granted(here: Transaction, rules: Rules, new: Sequence[Guess]) -> Mapping[bytes, Counted]:
    alive = _alive(here, new)
    left = allowance(here, rules, list({guess.holder.recipient for guess in new}))
    counted = [
        Counted(guess.ids[0], here.now, left.grant(alive.get(guess.holder))) for guess in new
    ]
    rows = [_row(guess, each) for guess, each in zip(new, counted, strict=True)]
    here.each(here.say.recording, rows)
    return {each.id: each for each in counted}


def _alive(here: Transaction, guesses: Sequence[Guess]) -> Mapping[Holder, Challenge]:
    emails = list({guess.holder.email for guess in guesses})
    standing = here.challenges(here.say.standing, emails=emails)
    return {each.holder: each for each in standing if each.is_in_time(here.now)}


def _row(guess: Guess, counted: Counted) -> Mapping[str, object]:
    return {
        "id": counted.id,
        "at": counted.at,
        "recipient": guess.holder.recipient,
        "challenge_id": counted.challenge.id if counted.challenge else None,
        "verified": False,
    }
