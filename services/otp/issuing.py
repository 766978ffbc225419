"""Requests for codes: each answered once, with a challenge to be mailed or a refusal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.otp import guessing, sql
from services.otp.codes import (
    MAX_CLOCK_STEP_MS,
    Challenge,
    CodePolicy,
    CodeScope,
    NewChallenge,
)
from services.otp.guessing import GuessBudget
from services.otp.limits import DAY_MS, MINUTE_MS, Limit, WindowCounter
from services.otp.sql import OtpTransaction, Row
from shared.contracts import Withholding


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """A request to mail the code of the scope's living challenge, or else of `new_challenge`.

    Two requests with one name are one request, so a name belongs to one scope.
    """

    name: str
    new_challenge: NewChallenge
    limits: Sequence[Limit]

    @property
    def recipient(self) -> str:
        """The recipient of the mail."""
        return self.new_challenge.scope.recipient

    @property
    def subjects(self) -> Sequence[str]:
        """The subjects that the mail is counted for, each once."""
        return list(dict.fromkeys(limit.subject for limit in self.limits))


@dataclass(frozen=True, slots=True)
class Issued:
    """A challenge whose code is to be mailed; all times in milliseconds since 1970."""

    challenge: Challenge
    at: int
    resend_at: int
    left: int  # milliseconds from now until the challenge expires


@dataclass(frozen=True, slots=True)
class IssueRefused:
    """Nothing is to be mailed; `retry_after` is in milliseconds."""

    reason: Withholding
    retry_after: int


IssueResult = Issued | IssueRefused


@dataclass(slots=True)
class Issuer:
    """Pure: decides requests one after the other, each with the effects of those before it.

    `alive` holds the challenges that can still be mailed, by their scopes. A code is right for one
    spelling of an address alone; the cooldown is that of all its spellings (issue 10, A12).
    """

    policy: CodePolicy
    now: int
    alive: dict[CodeScope, Challenge]
    mails: WindowCounter
    made: list[Challenge] = field(default_factory=list)
    mailed: set[str] = field(default_factory=set)  # ids of challenges
    mailed_at: dict[CodeScope, int] = field(default_factory=dict)  # the last time, by folded scope

    def __post_init__(self) -> None:
        """Note when the challenges alive were mailed."""
        for each in self.alive.values():
            self._note(each)

    def decide(self, request: IssueRequest) -> IssueResult:
        """Return the answer to a request."""
        scope = request.new_challenge.scope
        alive = self.alive.get(scope)
        cooldown = self._cooldown(scope)
        limit = max(map(self.mails.wait, request.limits), default=0)
        if max(cooldown, limit):
            reason = Withholding.LIMIT if limit > cooldown else Withholding.COOLDOWN
            return IssueRefused(reason, max(cooldown, limit))
        self.mails.add(request.subjects)
        challenge = replace(alive, mailed_at=self.now) if alive else self._make(request)
        self.alive[scope] = challenge
        self.mailed.add(challenge.id)
        self._note(challenge)
        # From its end on, a new code can be requested.
        resend_at = min(self.now + self.policy.cooldown, challenge.expires_at)
        return Issued(challenge, self.now, resend_at, challenge.expires_at - self.now)

    def _note(self, challenge: Challenge) -> None:
        # A mail of the future was sent before the clock was put back: no request waits for it.
        if challenge.mailed_at <= self.now + MAX_CLOCK_STEP_MS:
            folded = challenge.scope.folded
            self.mailed_at[folded] = max(self.mailed_at.get(folded, 0), challenge.mailed_at)

    def _cooldown(self, scope: CodeScope) -> int:
        mailed_at = self.mailed_at.get(scope.folded)
        return 0 if mailed_at is None else max(0, mailed_at + self.policy.cooldown - self.now)

    def _make(self, request: IssueRequest) -> Challenge:
        new, now = request.new_challenge, self.now
        times = (now, now + self.policy.lifetime, now)
        challenge = Challenge(new.id, new.scope, new.nonce, new.key_id, new.digits, *times)
        self.made.append(challenge)
        return challenge


def alive(
    policy: CodePolicy, now: int, standing: Iterable[Challenge], left: GuessBudget
) -> dict[CodeScope, Challenge]:
    """Return the challenges that a guess may still be right for, by their scopes."""
    return {
        each.scope: each
        for each in standing
        if each.is_in_time(now) and each.key_id in policy.key_ids and not left.is_exhausted(each.id)
    }


def answer(
    tx: OtpTransaction, policy: CodePolicy, requests: Sequence[IssueRequest]
) -> Sequence[IssueResult]:
    """Answer requests, in their order; a repeated request has its first answer again."""
    tx.lock(name for each in requests for name in (*each.subjects, each.recipient))
    answers = _known(tx, policy, requests)
    new = {each.name: each for each in requests if each.name not in answers}
    if new:
        answers |= _decide(tx, policy, [*new.values()])
    return [answers[each.name] for each in requests]


def _known(
    tx: OtpTransaction, policy: CodePolicy, requests: Sequence[IssueRequest]
) -> dict[str, IssueResult]:
    rows = tx.run(sql.FIND_ANSWERS, [(name,) for name in {each.name for each in requests}])
    challenges = tx.challenges(row.challenge_id for row in rows)
    # The challenge of a withdrawn key is no answer any more.
    usable = {id_: each for id_, each in challenges.items() if each.key_id in policy.key_ids}
    return {
        row.id: _read(row, usable, tx.now)
        for row in rows
        if row.challenge_id is None or row.challenge_id in usable
    }


def _read(row: Row, challenges: Mapping[str, Challenge], now: int) -> IssueResult:
    if row.challenge_id is None:
        return IssueRefused(Withholding(row.reason), row.retry_after)
    challenge = challenges[row.challenge_id]
    return Issued(challenge, row.at, row.resend_at, challenge.expires_at - now)


def _decide(
    tx: OtpTransaction, policy: CodePolicy, requests: Sequence[IssueRequest]
) -> Mapping[str, IssueResult]:
    standing = _standing(tx, requests)
    left = guessing.budget(tx, policy, (each.scope.recipient for each in standing))
    issuer = Issuer(policy, tx.now, alive(policy, tx.now, standing, left), _mails(tx, requests))
    answers = {request.name: issuer.decide(request) for request in requests}
    _keep(tx, issuer, standing)
    tx.run(sql.KEEP_ANSWERS, [(name, tx.now, *_cells(each)) for name, each in answers.items()])
    return answers


def _standing(tx: OtpTransaction, requests: Sequence[IssueRequest]) -> Sequence[Challenge]:
    """Return the challenges of the scopes, and those of other spellings of their addresses."""
    scopes = {each.new_challenge.scope.folded for each in requests}
    found = tx.standing(scope.recipient for scope in scopes)
    return [each for each in found if each.scope.folded in scopes]


def _mails(tx: OtpTransaction, requests: Sequence[IssueRequest]) -> WindowCounter:
    subjects = {name for each in requests for name in each.subjects}
    since = (tx.now - DAY_MS) // MINUTE_MS
    return WindowCounter(tx.run(sql.FIND_MAILS, [(each,) for each in subjects], since), tx.now)


def _keep(tx: OtpTransaction, issuer: Issuer, standing: Sequence[Challenge]) -> None:
    replaced = {each.scope for each in issuer.made}
    again = issuer.mailed - {each.id for each in issuer.made}
    ended = [(each.id,) for each in standing if each.scope in replaced]
    tx.run(sql.END_CHALLENGES, ended, tx.now)
    tx.run(sql.ADD_CHALLENGES, map(_challenge_row, issuer.made))
    tx.run(sql.SET_MAILED, [(id_,) for id_ in again], tx.now)
    added = sorted(issuer.mails.added.items())
    tx.run(sql.COUNT_MAILS, [(subject, issuer.mails.slot, count) for subject, count in added])


def _challenge_row(challenge: Challenge) -> Sequence[object]:
    c, scope = challenge, challenge.scope
    by = (c.id, scope.client, scope.purpose, scope.email, c.nonce, c.key_id, c.digits)
    return (*by, c.created_at, c.expires_at, c.mailed_at, scope.recipient)


def _cells(result: IssueResult) -> tuple[str | None, int | None, str | None, int | None]:
    match result:
        case Issued(challenge=challenge, resend_at=resend_at):
            return (challenge.id, resend_at, None, None)
        case IssueRefused(reason=reason, retry_after=retry_after):
            return (None, None, reason, retry_after)
