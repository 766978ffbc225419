"""The handlers of the otp service: issue, verify and cancel codes."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.otp.codes import (
    FIXED_ISSUED,
    FIXED_VERIFIED,
    NO_FIXED_CODES,
    SECOND_MS,
    Challenge,
    CodeGenerator,
    CodeScope,
    FixedCodes,
)
from services.otp.guessing import CodeUse, CountedGuess, Guess, UncheckedGuess
from services.otp.issuing import Issued, IssueRefused, IssueRequest
from services.otp.limits import CodeLimits
from services.otp.mail.mail import MailContext, MailWriter
from services.otp.store import ChallengeStore
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
    ForgetAddress,
    IssueCode,
    SendEmail,
    VerifyCode,
)
from shared.runtime.sealing import Sealer

_IDS = uuid.UUID("5f0d1f0c-9a55-5b0e-8f61-0c7c2a1d7b11")  # a name space of our own (RFC 9562 5.5)


@dataclass(frozen=True, slots=True)
class CodeHandlers:
    """Handles commands and questions. All times are those of the database of challenges."""

    store: ChallengeStore
    generator: CodeGenerator
    sealer: Sealer
    writer: MailWriter
    limits: CodeLimits
    fixed_codes: FixedCodes = NO_FIXED_CODES

    async def on_issue_code(self, command: IssueCode) -> Sequence[Contract]:
        """Mail the code of the scope's challenge, or answer that a cooldown or limit holds it back.

        A fixed code is not mailed.

        Safe to run twice: the same command has the same answer, challenge, code and message id
        again, and the sender mails a message id once.
        """
        scope = CodeScope(command.client or "", command.purpose, command.email)
        new_challenge = self.generator.new_challenge(scope, command.length)
        limits = self.limits.of_mail(scope, command.ip)
        request = IssueRequest(_name(command, scope), new_challenge, limits)
        match await self.store.issue(request):
            case Issued() as issued if self.fixed_codes.has(scope, issued.at):
                FIXED_ISSUED.inc()
                return [_issued(command, request, issued)]
            case Issued() as issued:
                return [self._mail(command, request, issued), _issued(command, request, issued)]
            case IssueRefused() as refused:
                return [_withheld(request, refused)]

    async def on_verify_code(self, question: VerifyCode) -> Sequence[Contract]:
        """Answer whether a code is right, and use it up if it is.

        Safe to run twice: the same request with the same code has the same answer, and counts
        once. A crash between the count and the answer costs a guess and no more.
        """
        guess = self._guess(question)
        counted = await self.store.guess(guess)
        if isinstance(counted, UncheckedGuess):
            return [_unchecked(guess.ids[0], counted)]
        challenge = counted.challenge
        # Compared even without a challenge: each refusal takes the same work.
        is_right = self._is_right(question, guess, counted)
        if challenge and is_right and await self.store.use(CodeUse(counted, challenge)):
            if self.fixed_codes.has(guess.scope, counted.at):
                FIXED_VERIFIED.inc()
            return [_verified(question, counted, challenge)]
        return [_refused(question, counted)]

    async def on_cancel_code(self, command: CancelCode) -> Sequence[Contract]:
        """End a challenge. Safe to run twice: an ended challenge stays ended."""
        await self.store.cancel(command.challenge_id, command.client or "")
        cancelled = _derived("code.cancelled", command.id)
        return [CodeCancelled(id=cancelled, challenge_id=command.challenge_id)]

    def _is_right(self, question: VerifyCode, guess: Guess, counted: CountedGuess) -> bool:
        is_right = self.generator.is_right(counted.challenge, question.code)
        if self.fixed_codes.has(guess.scope, counted.at):
            return self.fixed_codes.is_right(guess.scope, question.code, counted.at)
        return is_right

    async def on_forget_address(self, command: ForgetAddress) -> Sequence[Contract]:
        """Delete challenges, guesses and counts of an address. Safe to run twice: nothing is left.

        A code that was mailed before is not right any more.
        """
        await self.store.forget(command.email)
        return []

    def _guess(self, question: VerifyCode) -> Guess:
        scope = CodeScope(question.client or "", question.purpose, question.email)
        ids = self.generator.fingerprints(scope, question.id, question.code)
        return Guess(ids, scope, self.limits.of_guess(scope, question.ip))

    def _mail(self, command: IssueCode, request: IssueRequest, issued: Issued) -> SendEmail:
        message_id = _derived("email.send", request.name)
        left = issued.left / SECOND_MS
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


def _issued(command: IssueCode, request: IssueRequest, issued: Issued) -> CodeIssued:
    return CodeIssued(
        id=_derived("code.issued", request.name),
        at=_moment(issued.at),
        challenge_id=issued.challenge.id,
        email=command.email,
        client=command.client,
        purpose=command.purpose,
        expires_at=_moment(issued.challenge.expires_at),
        resend_at=_moment(issued.resend_at),
    )


def _withheld(request: IssueRequest, refused: IssueRefused) -> CodeWithheld:
    return CodeWithheld(
        id=_derived("code.withheld", request.name),
        reason=refused.reason,
        retry_after=refused.retry_after / SECOND_MS,
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
        retry_after=unchecked.retry_after / SECOND_MS,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / SECOND_MS, UTC)


def _name(command: IssueCode, scope: CodeScope) -> str:
    """Return the name of a command: a repeated id has another name in another scope."""
    return _derived("code.issue", f"{scope.client}/{scope.purpose}/{scope.email}/{command.id}")


def _derived(kind: str, cause: str) -> str:
    """Return the id of the message that `cause` leads to, the same at every run."""
    return str(uuid.uuid5(_IDS, f"{kind}/{cause}"))
