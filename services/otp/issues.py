"""Commands in the database: each answered once, with a challenge to be mailed or a refusal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from services.otp import guesses
from services.otp.challenge import Challenge, CodePolicy
from services.otp.issuance import Issued, Issuer, IssueRefused, IssueRequest, IssueResult, alive
from services.otp.limits import DAY
from services.otp.tally import MINUTE, WindowCounter
from services.otp.transaction import Cell, OtpTransaction, Row
from shared.contracts import Withholding


def fulfil(
    here: OtpTransaction, rules: CodePolicy, orders: Sequence[IssueRequest]
) -> Sequence[IssueResult]:
    """Answer commands, those that were answered before as they were."""
    here.take_turns(name for order in orders for name in (*order.subjects, order.recipient))
    answers = _known(here, rules, orders)
    new = {each.name: each for each in orders if each.name not in answers}
    if new:
        answers |= _decided(here, rules, [*new.values()])
    return [answers[order.name] for order in orders]


def _known(
    here: OtpTransaction, rules: CodePolicy, orders: Sequence[IssueRequest]
) -> dict[str, IssueResult]:
    rows = here.rows(here.say.answers, [(id_,) for id_ in {each.name for each in orders}])
    challenges = here.named(row.challenge_id for row in rows)
    # The challenge of a key that was withdrawn is no answer any more.
    usable = {id_: each for id_, each in challenges.items() if each.key_id in rules.key_ids}
    return {
        row.id: _answer(row, usable, here.now)
        for row in rows
        if row.challenge_id is None or row.challenge_id in usable
    }


def _answer(row: Row, challenges: Mapping[str, Challenge], now: int) -> IssueResult:
    if row.challenge_id is None:
        return IssueRefused(Withholding(row.reason), row.retry_after)
    challenge = challenges[row.challenge_id]
    return Issued(challenge, row.at, row.resend_at, challenge.expires_at - now)


def _decided(
    here: OtpTransaction, rules: CodePolicy, orders: Sequence[IssueRequest]
) -> Mapping[str, IssueResult]:
    standing = _standing(here, orders)
    left = guesses.allowance(here, rules, (each.scope.recipient for each in standing))
    living = alive(rules, here.now, standing, left)
    issuance = Issuer(rules, here.now, living, _tally(here, orders))
    answers = {order.name: issuance.decide(order) for order in orders}
    _keep(here, issuance, standing)
    here.rows(here.say.remembering, [_command_row(here, *each) for each in answers.items()])
    return answers


def _standing(here: OtpTransaction, orders: Sequence[IssueRequest]) -> Sequence[Challenge]:
    """Return the challenges of the holders, and those of other spellings of their addresses."""
    scopes = {order.new_challenge.scope.folded for order in orders}
    found = here.standing(scope.recipient for scope in scopes)
    return [each for each in found if each.scope.folded in scopes]


def _keep(here: OtpTransaction, issuance: Issuer, standing: Sequence[Challenge]) -> None:
    made = issuance.made
    replaced = {each.scope for each in made}
    dead = [each.id for each in standing if each.scope in replaced]
    again = issuance.mailed - {each.id for each in made}
    here.rows(here.say.ending, [(id_,) for id_ in dead])
    here.each(here.say.making, [_challenge_row(each) for each in made])
    here.rows(here.say.mailing, [(id_,) for id_ in again], now=here.now)
    here.rows(here.say.counting, _mail_rows(issuance.tally))


def _tally(here: OtpTransaction, orders: Sequence[IssueRequest]) -> WindowCounter:
    subjects = {name for order in orders for name in order.subjects}
    since = here.now // MINUTE - DAY
    found = here.rows(here.say.tallying, [(each,) for each in subjects], since=since)
    return WindowCounter((tuple(row) for row in found), here.now)


def _challenge_row(challenge: Challenge) -> Mapping[str, object]:
    values = asdict(challenge)
    return {**values.pop("scope"), **values, "recipient": challenge.scope.recipient}


def _command_row(here: OtpTransaction, command_id: str, answer: IssueResult) -> Sequence[Cell]:
    match answer:
        case Issued(challenge=challenge, resend_at=resend_at):
            return (command_id, here.now, challenge.id, resend_at, None, None)
        case IssueRefused(reason=reason, retry_after=retry_after):
            return (command_id, here.now, None, None, reason, retry_after)


def _mail_rows(tally: WindowCounter) -> Sequence[Sequence[Cell]]:
    return [(subject, tally.slot, sent) for subject, sent in sorted(tally.added.items())]
