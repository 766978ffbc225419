"""Reading a mail that a handler returned, as its recipient does, and watching codes compared."""

from collections.abc import Sequence

import orjson

from services.otp.challenge import Challenge
from services.otp.codes import CodeGenerator
from shared.contracts import SendEmail
from shared.runtime.sealing import Sealer

SEALER = Sealer([bytes(32)])


def mail_in(returned: Sequence[object]) -> SendEmail:
    """Find the mail among what a handler returned."""
    (mail,) = (item for item in returned if isinstance(item, SendEmail))
    return mail


def code_in(mail: SendEmail) -> str:
    """Read the code of a mail as its recipient does."""
    assert mail.sealed
    text = orjson.loads(SEALER.open(mail.sealed, context=mail.id))["text"]
    (code,) = (line for line in text.splitlines() if line.isdecimal())
    return str(code)


def wrong(code: str) -> str:
    """Give a code that is not right."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


class CountingCodeGenerator(CodeGenerator):
    """Counts the guesses that could have been right."""

    compared = 0

    def is_right(self, challenge: Challenge | None, typed: str) -> bool:
        """Compare, and count if there is a challenge."""
        self.compared += challenge is not None
        return super().is_right(challenge, typed)
