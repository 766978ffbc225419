"""Reading mails with codes in the sender's place."""

import orjson
import pytest

from benchmarks import codes
from benchmarks.accept import HttpPlan
from benchmarks.bench import Bench
from benchmarks.codes import CodeReader
from shared.contracts import Category, SendEmail
from shared.runtime.sealing import Sealer


async def test_codes_are_kept_by_recipient() -> None:
    """The code is the line that is a number; a second copy changes nothing."""
    reader = CodeReader(Sealer([bytes(32)]))
    content = orjson.dumps({"text": "It is 6 digits:\n\n012345\n\nBye", "html": ""})
    mail = SendEmail(
        id="m-1",
        category=Category.OTP,
        to=("Ann <ann@example.com>",),
        subject="Your code",
        sealed=reader.sealer.seal(content, context="m-1"),
    )
    await reader.take(mail)
    await reader.take(mail)

    assert await reader.filled(1) == {"ann@example.com": "012345"}


pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


async def test_every_code_is_verified_once(bench: Bench) -> None:
    """As many right codes are verified, and wrong ones refused, as were asked for."""
    right, wrong = await codes.measure(bench, HttpPlan(count=20, connections=2, repetitions=2))

    assert len(right.latencies) == len(wrong.latencies) == 2 * 20
    assert right.rate > 0
    assert wrong.rate > 0
