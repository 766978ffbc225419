"""Pure: for each command a challenge to be mailed, an old one or a new one, or a refusal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from services.otp.allowance import GuessBudget
from services.otp.challenge import STEP, Challenge, CodePolicy, CodeScope, NewChallenge
from services.otp.limits import Limit
from services.otp.tally import WindowCounter
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
        """Whose mail it would be."""
        return self.new_challenge.scope.recipient

    @property
    def subjects(self) -> Sequence[str]:
        """What is counted with each mail, each once."""
        return list(dict.fromkeys(limit.subject for limit in self.limits))


@dataclass(frozen=True, slots=True)
class Issued:
    """A challenge whose code is to be mailed; all times in milliseconds since 1970."""

    challenge: Challenge
    at: int
    resend_at: int
    left: int  # milliseconds until the challenge expires, when this is given


@dataclass(frozen=True, slots=True)
class IssueRefused:
    """Nothing is to be mailed; `retry_after` is in milliseconds."""

    reason: Withholding
    retry_after: int


IssueResult = Issued | IssueRefused


@dataclass(slots=True)
class Issuer:
    """Decides one order after the other, each by what those before it have changed.

    `alive` holds the challenges that can still be mailed, by their holders. A code is right for one
    spelling of an address alone; the cooldown is that of all its spellings (issue 10, A12).
    """

    rules: CodePolicy
    now: int
    alive: dict[CodeScope, Challenge]
    tally: WindowCounter
    made: list[Challenge] = field(default_factory=list)
    mailed: set[str] = field(default_factory=set)  # ids of challenges
    mailed_at: dict[CodeScope, int] = field(
        default_factory=dict
    )  # the last time, by folded holders

    def __post_init__(self) -> None:
        """Note when the challenges alive were mailed."""
        for each in self.alive.values():
            self._note(each)

    def decide(self, order: IssueRequest) -> Issued | IssueRefused:
        """Give what a command is answered with."""
        scope = order.new_challenge.scope
        alive = self.alive.get(scope)
        cooldown = self._cooldown(scope)
        limit = max((self.tally.wait(each) for each in order.limits), default=0)
        if max(cooldown, limit):
            reason = Withholding.LIMIT if limit > cooldown else Withholding.COOLDOWN
            return IssueRefused(reason, max(cooldown, limit))
        self.tally.add(order.subjects)
        challenge = replace(alive, mailed_at=self.now) if alive else self._make(order.new_challenge)
        self.alive[scope] = challenge
        self.mailed.add(challenge.id)
        self._note(challenge)
        left = challenge.expires_at - self.now
        return Issued(challenge, self.now, self._resend_at(challenge), left)

    def _note(self, challenge: Challenge) -> None:
        # A mail of the future was sent before the clock was put back: nobody waits for that.
        if challenge.mailed_at <= self.now + STEP:
            folded = challenge.scope.folded
            self.mailed_at[folded] = max(self.mailed_at.get(folded, 0), challenge.mailed_at)

    def _cooldown(self, scope: CodeScope) -> int:
        mailed_at = self.mailed_at.get(scope.folded)
        return 0 if mailed_at is None else max(0, mailed_at + self.rules.cooldown - self.now)

    def _make(self, new_challenge: NewChallenge) -> Challenge:
        challenge = Challenge(
            id=new_challenge.id,
            scope=new_challenge.scope,
            nonce=new_challenge.nonce,
            key_id=new_challenge.key_id,
            digits=new_challenge.digits,
            created_at=self.now,
            expires_at=self.now + self.rules.lifetime,
            mailed_at=self.now,
        )
        self.made.append(challenge)
        return challenge

    def _resend_at(self, challenge: Challenge) -> int:
        """Give when to ask again: for the same code, or from its end on for a new one."""
        return min(self.now + self.rules.cooldown, challenge.expires_at)


def alive(
    rules: CodePolicy, now: int, standing: Iterable[Challenge], left: GuessBudget
) -> dict[CodeScope, Challenge]:
    """Give the challenges of which a guess may still be right, by their holders."""
    return {
        each.scope: each
        for each in standing
        if each.is_in_time(now) and each.key_id in rules.key_ids and not left.is_exhausted(each.id)
    }
