"""What the otp service does with each message."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.otp.challenge import Challenge, Draft, Holder
from services.otp.codes import Codebook
from services.otp.mail import MailWriter, Occasion
from shared.contracts import (
    Category,
    CodeIssued,
    CodeRefused,
    CodeVerified,
    Contract,
    IssueCode,
    SendEmail,
    VerifyCode,
)
from shared.sealing import Sealer

_IDS = uuid.UUID("5f0d1f0c-9a55-5b0e-8f61-0c7c2a1d7b11")  # a name space of our own (RFC 9562 5.5)


class Challenges(Protocol):
    """Where challenges live."""

    async def issue(self, command_id: str, draft: Draft) -> Challenge:
        """Give the challenge for a command, the same for the same command."""

    async def guess(self, holder: Holder, request_id: str) -> Challenge | None:
        """Count a guess and give the challenge to compare it with."""

    async def use(self, challenge_id: str, request_id: str) -> bool:
        """Use a challenge up; True for the one request that does."""


@dataclass(frozen=True, slots=True)
class OneTimeCodes:
    """The handlers."""

    challenges: Challenges
    codebook: Codebook
    sealer: Sealer
    writer: MailWriter
    now: Callable[[], datetime]

    async def on_issue_code(self, command: IssueCode) -> Sequence[Contract]:
        """Mail the code of the holder's challenge.

        Safe to run twice: the same command gets the same challenge, code and message id again,
        and the sender mails a message id once.
        """
        holder = Holder(command.client or "", command.email)
        challenge = await self.challenges.issue(command.id, self.codebook.draft(holder))
        return [self._mail(command, challenge), self._issued(command, challenge)]

    async def on_verify_code(self, question: VerifyCode) -> Sequence[Contract]:
        """Tell whether a code is right, and use it up if so.

        Safe to run twice: the request that used a code up is told so again. A wrong one stays
        wrong, and its second run counts as one more guess.
        """
        holder = Holder(question.client or "", question.email)
        challenge = await self.challenges.guess(holder, question.id)
        right = self.codebook.is_right(challenge, question.code)
        if challenge and right and await self.challenges.use(challenge.id, question.id):
            return [self._verified(question, challenge)]
        return [self._refused(question)]

    def _mail(self, command: IssueCode, challenge: Challenge) -> SendEmail:
        message_id = _derived("email.send", command.id)
        now = self.now()
        left = (challenge.expires_at - now).total_seconds()
        occasion = Occasion(command.client or "", command.purpose, command.locale, left)
        mail = self.writer.compose(self.codebook.code(challenge), occasion)
        return SendEmail(
            id=message_id,
            category=Category.OTP,
            from_=mail.from_,
            to=(command.email,),
            subject=mail.subject,
            sealed=self.sealer.seal(mail.encode(), context=message_id),
            client=command.client,
            created_at=now,
            expires_at=challenge.expires_at,
        )

    def _issued(self, command: IssueCode, challenge: Challenge) -> CodeIssued:
        return CodeIssued(
            id=_derived("code.issued", command.id),
            at=self.now(),
            challenge_id=challenge.id,
            email=command.email,
            expires_at=challenge.expires_at,
            resend_at=self.now(),
        )

    def _verified(self, question: VerifyCode, challenge: Challenge) -> CodeVerified:
        return CodeVerified(
            id=_derived("code.verified", question.id),
            at=self.now(),
            challenge_id=challenge.id,
            email=question.email,
        )

    def _refused(self, question: VerifyCode) -> CodeRefused:
        return CodeRefused(
            id=_derived("code.refused", question.id), at=self.now(), email=question.email
        )


def _derived(kind: str, cause: str) -> str:
    """Give the id of what `cause` leads to, the same at every run."""
    return str(uuid.uuid5(_IDS, f"{kind}/{cause}"))
