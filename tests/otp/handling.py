"""Handlers on a store, the mails that they return, and the codes that a recipient types."""

from collections.abc import Sequence

import orjson

from services.otp.codes import Challenge, CodeGenerator
from services.otp.handlers import CodeHandlers
from services.otp.limits import CodeLimits
from services.otp.mail import translations
from services.otp.mail.mail import Branding, MailWriter
from services.otp.store import ChallengeStore
from shared.contracts import Contract, IssueCode, SendEmail, VerifyCode
from shared.runtime.sealing import Sealer
from shared.storage.database import Database
from tests.otp.asking import NO_LIMITS, POLICY

SEALER = Sealer([bytes(32)])


def mail_in(returned: Sequence[object]) -> SendEmail:
    """Return the mail among the messages of a handler."""
    (mail,) = (item for item in returned if isinstance(item, SendEmail))
    return mail


def code_in(mail: SendEmail) -> str:
    """Read the code of a mail as its recipient does."""
    assert mail.sealed
    text = orjson.loads(SEALER.open(mail.sealed, context=mail.id))["text"]
    (code,) = (line for line in text.splitlines() if line.isdecimal())
    return str(code)


def wrong(code: str) -> str:
    """Return a wrong code."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


class CountingCodeGenerator(CodeGenerator):
    """A generator that counts the comparisons with a challenge."""

    compared = 0

    def is_right(self, challenge: Challenge | None, typed: str) -> bool:
        """Compare, and count if there is a challenge."""
        self.compared += challenge is not None
        return super().is_right(challenge, typed)


EMAIL = "anna@example.com"


def guarded(
    database: Database, generator: CodeGenerator, limits: CodeLimits = NO_LIMITS
) -> CodeHandlers:
    """Return handlers with a cooldown and these limits."""
    return handlers(ChallengeStore(database, POLICY), generator, limits)


def handlers(
    store: ChallengeStore, generator: CodeGenerator, limits: CodeLimits = NO_LIMITS
) -> CodeHandlers:
    """Return the handlers of a shop."""
    writer = MailWriter(translations.shipped(), Branding(from_="Shop <shop@example.com>"))
    return CodeHandlers(store, generator, SEALER, writer, limits)


async def issue(codes: CodeHandlers, command_id: str = "command-1") -> str:
    """Request a code and read it in the mail."""
    return code_in(mail_in(await codes.on_issue_code(IssueCode(id=command_id, email=EMAIL))))


async def verify(
    codes: CodeHandlers, code: str, request_id: str = "request-1", client: str | None = None
) -> Contract:
    """Ask whether a code is right."""
    question = VerifyCode(id=request_id, email=EMAIL, code=code, client=client)
    [answer] = await codes.on_verify_code(question)
    return answer
