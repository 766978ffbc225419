"""What the otp service does with each message."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from services.otp.codes import Challenge, CodeGenerator, CodeScope
from services.otp.guessing import CodeUse, CountedGuess, Guess, GuessDecision, UncheckedGuess
from services.otp.issuing import Issued, IssueRefused, IssueRequest, IssueResult
from services.otp.limits import CodeLimits
from services.otp.mail.mail import MailContext, MailWriter
from shared.contracts import (
    CancelCode,
    Category,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeUnchecked,
    CodeVerified,
    CodeWithheld,
    Contract,
    IssueCode,
    SendEmail,
    VerifyCode,
)
from shared.runtime.sealing import Sealer

MILLISECONDS = 1000  # in a second

_IDS = uuid.UUID("5f0d1f0c-9a55-5b0e-8f61-0c7c2a1d7b11")  # a name space of our own (RFC 9562 5.5)


class Challenges(Protocol):
    """Where challenges live. All of it raises Retry."""

    async def issue(self, order: IssueRequest) -> IssueResult:
        """Answer a command, the same command the same."""

    async def guess(self, guess: Guess) -> GuessDecision:
        """Count a guess and return the challenge to compare it with."""

    async def use(self, use: CodeUse) -> bool:
        """Use a challenge up; return whether this guess did."""

    async def cancel(self, challenge_id: str, client: str) -> None:
        """Let a client's challenge be right no more."""


@dataclass(frozen=True, slots=True)
class OneTimeCodes:
    """The handlers. All times are those of the database that the challenges live in."""

    challenges: Challenges
    generator: CodeGenerator
    sealer: Sealer
    writer: MailWriter
    limits: CodeLimits

    async def on_issue_code(self, command: IssueCode) -> Sequence[Contract]:
        """Mail the code of the holder's challenge, or tell that it is too early or too much.

        Safe to run twice: the same command gets the same answer, challenge, code and message id
        again, and the sender mails a message id once.
        """
        scope = CodeScope(command.client or "", command.purpose, command.email)
        new_challenge = self.generator.new_challenge(scope, command.length)
        order = IssueRequest(
            _name(command, scope), new_challenge, self.limits.of_mail(scope, command.ip)
        )
        match await self.challenges.issue(order):
            case Issued() as issued:
                return [self._mail(command, order, issued), _issued(command, order, issued)]
            case IssueRefused() as withheld:
                return [_withheld(order, withheld)]

    async def on_verify_code(self, question: VerifyCode) -> Sequence[Contract]:
        """Answer whether a code is right, and use it up if it is.

        Safe to run twice: the same request with the same code gets the same answer, and counts
        once. A crash between the count and the answer costs a guess and no more.
        """
        guess = self._guess(question)
        counted = await self.challenges.guess(guess)
        if isinstance(counted, UncheckedGuess):
            return [_unchecked(guess.ids[0], counted)]
        challenge = counted.challenge
        # Compared even without a challenge: each refusal takes the same work.
        is_right = self.generator.is_right(challenge, question.code)
        if challenge and is_right and await self.challenges.use(CodeUse(counted, challenge)):
            return [_verified(question, counted, challenge)]
        return [_refused(question, counted)]

    async def on_cancel_code(self, command: CancelCode) -> Sequence[Contract]:
        """Let a challenge be right no more. Safe to run twice: it cannot be more cancelled."""
        await self.challenges.cancel(command.challenge_id, command.client or "")
        cancelled = _derived("code.cancelled", command.id)
        return [CodeCancelled(id=cancelled, challenge_id=command.challenge_id)]

    def _guess(self, question: VerifyCode) -> Guess:
        scope = CodeScope(question.client or "", question.purpose, question.email)
        ids = self.generator.fingerprints(scope, question.id, question.code)
        return Guess(ids, scope, self.limits.of_guess(scope, question.ip))

    def _mail(self, command: IssueCode, order: IssueRequest, issued: Issued) -> SendEmail:
        message_id = _derived("email.send", order.name)
        left = issued.left / MILLISECONDS
        context = MailContext(command.client or "", command.purpose, command.locale, left)
        mail = self.writer.compose(self.generator.code(issued.challenge), context)
        return SendEmail(
            id=message_id,
            category=Category.OTP,
            from_=mail.from_,
            to=(command.email,),
            subject=mail.subject,
            sealed=self.sealer.seal(mail.encode(), context=message_id),
            client=command.client,
            created_at=_moment(issued.at),
            expires_at=_moment(issued.challenge.expires_at),
        )


def _issued(command: IssueCode, order: IssueRequest, issued: Issued) -> CodeIssued:
    return CodeIssued(
        id=_derived("code.issued", order.name),
        at=_moment(issued.at),
        challenge_id=issued.challenge.id,
        email=command.email,
        client=command.client,
        purpose=command.purpose,
        expires_at=_moment(issued.challenge.expires_at),
        resend_at=_moment(issued.resend_at),
    )


def _withheld(order: IssueRequest, withheld: IssueRefused) -> CodeWithheld:
    return CodeWithheld(
        id=_derived("code.withheld", order.name),
        reason=withheld.reason,
        retry_after=withheld.retry_after / MILLISECONDS,
    )


def _verified(question: VerifyCode, counted: CountedGuess, challenge: Challenge) -> CodeVerified:
    return CodeVerified(
        id=_derived("code.verified", counted.id),
        at=_moment(counted.at),
        challenge_id=challenge.id,
        email=question.email,
        client=question.client,
        purpose=question.purpose,
    )


def _refused(question: VerifyCode, counted: CountedGuess) -> CodeRefused:
    return CodeRefused(
        id=_derived("code.refused", counted.id),
        at=_moment(counted.at),
        email=question.email,
        client=question.client,
        purpose=question.purpose,
    )


def _unchecked(guess_id: str, unchecked: UncheckedGuess) -> CodeUnchecked:
    return CodeUnchecked(
        id=_derived("code.unchecked", guess_id),
        retry_after=unchecked.retry_after / MILLISECONDS,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / MILLISECONDS, UTC)


def _name(command: IssueCode, scope: CodeScope) -> str:
    """Name a command for its holder alone: who repeats the id of another is not mailed his code."""
    return _derived("code.issue", f"{scope.client}/{scope.purpose}/{scope.email}/{command.id}")


def _derived(kind: str, cause: str) -> str:
    """Give the id of what `cause` leads to, the same at every run."""
    return str(uuid.uuid5(_IDS, f"{kind}/{cause}"))
