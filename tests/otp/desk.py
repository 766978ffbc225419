"""Handlers on a store, and what somebody asks of them."""

from services.otp.codes import CodeGenerator
from services.otp.handlers import OneTimeCodes
from services.otp.limits import CodeLimits
from services.otp.mail import translations
from services.otp.mail.mail import Branding, MailWriter
from services.otp.store import ChallengeStore
from shared.contracts import Contract, IssueCode, VerifyCode
from shared.storage.database import Database
from tests.otp.asking import NO_LIMITS, RULES
from tests.otp.reading import SEALER, code_in, mail_in

EMAIL = "anna@example.com"


def guarded(
    database: Database, generator: CodeGenerator, limits: CodeLimits = NO_LIMITS
) -> OneTimeCodes:
    """Give the handlers of a deployment that keeps its cooldown and these limits."""
    return handlers(ChallengeStore(database, RULES), generator, limits)


def handlers(
    store: ChallengeStore, generator: CodeGenerator, limits: CodeLimits = NO_LIMITS
) -> OneTimeCodes:
    """Give the handlers of a shop."""
    writer = MailWriter(translations.shipped(), Branding(from_="Shop <shop@example.com>"))
    return OneTimeCodes(store, generator, SEALER, writer, limits)


async def issue(codes: OneTimeCodes, command_id: str = "command-1") -> str:
    """Ask for a code and read it in the mail."""
    return code_in(mail_in(await codes.on_issue_code(IssueCode(id=command_id, email=EMAIL))))


async def verify(
    codes: OneTimeCodes, code: str, request_id: str = "request-1", client: str | None = None
) -> Contract:
    """Ask whether a code is right."""
    question = VerifyCode(id=request_id, email=EMAIL, code=code, client=client)
    [[answer]] = await codes.on_verify_codes([question])
    return answer
