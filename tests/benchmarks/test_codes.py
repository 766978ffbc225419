"""Reading mails with codes in the sender's place."""

import orjson

from benchmarks.codes import Mailbox
from shared.contracts import Category, SendEmail
from shared.runtime.sealing import Sealer


async def test_codes_are_kept_by_recipient() -> None:
    """The code is the line that is a number; a second copy changes nothing."""
    mailbox = Mailbox(Sealer([bytes(32)]))
    content = orjson.dumps({"text": "It is 6 digits:\n\n012345\n\nBye", "html": ""})
    mail = SendEmail(
        id="m-1",
        category=Category.OTP,
        to=("Ann <ann@example.com>",),
        subject="Your code",
        sealed=mailbox.sealer.seal(content, context="m-1"),
    )
    await mailbox.take(mail)
    await mailbox.take(mail)

    assert await mailbox.filled(1) == {"ann@example.com": "012345"}
