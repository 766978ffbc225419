"""Refusals: alike in form, time and silence, and none too many."""

import asyncio
import logging
import traceback
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from uuid import uuid4

import pytest
import sqlalchemy as sa

from services.otp.handlers import CodeHandlers
from services.otp.store import ChallengeStore
from shared.contracts import CodeRefused, CodeUnchecked, VerifyCode, encode
from shared.errors import Retry
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import FREE, NO_LIMITS
from tests.otp.handling import EMAIL, CountingCodeGenerator, guarded, handlers, issue, verify, wrong
from tests.otp.work import Work, watching


async def test_refusals_are_alike(codes: CodeHandlers) -> None:
    """An unknown, wrong, used or exhausted code has the same answer."""
    unknown = await verify(codes, "123456", "request-1")
    code = await issue(codes)
    refused = await verify(codes, wrong(code), "request-2")
    await verify(codes, code, "request-3")
    used = await verify(codes, code, "request-4")
    code = await issue(codes, "command-2")
    for number in range(5):
        await verify(codes, wrong(code), f"guess-{number}")
    exhausted = await verify(codes, code, "request-5")

    shapes = {
        encode(answer.model_copy(update={"id": "x", "at": datetime(2030, 1, 1, tzinfo=UTC)}))
        for answer in (unknown, refused, used, exhausted)
    }
    assert len(shapes) == 1


async def test_fifty_wrong_guesses_at_once(
    codes: CodeHandlers, generator: CountingCodeGenerator
) -> None:
    """Of 50 wrong guesses at once five are compared, and then no code is right."""
    code = await issue(codes)
    await asyncio.gather(*(verify(codes, wrong(code), f"request-{number}") for number in range(50)))

    assert generator.compared == 5
    assert isinstance(await verify(codes, code, "request-late"), CodeRefused)


async def test_past_the_failures(database: Database, generator: CountingCodeGenerator) -> None:
    """Past a limit on failures no guess is compared, and the answer has the time to wait.

    Nothing is published, and a question that was answered keeps its answer.
    """
    codes = guarded(database, generator, replace(NO_LIMITS, client_failures=2))
    code = await issue(codes)
    answers = [await verify(codes, wrong(code), f"request-{number}") for number in range(2)]
    compared = generator.compared
    unknown = VerifyCode(id="unknown", email="no@x.example", code=code)
    more = await codes.on_verify_code(unknown)
    held = [
        await verify(codes, code, "right"),
        await verify(codes, wrong(code), "wrong"),
        *more,
    ]

    assert [type(answer) for answer in answers] == [CodeRefused] * 2
    assert generator.compared == compared
    assert [type(answer) for answer in held] == [CodeUnchecked] * 3
    for answer in held:
        assert isinstance(answer, CodeUnchecked)
        assert 24 * 3600 < answer.retry_after <= 25 * 3600
    assert await verify(codes, wrong(code), "request-0") == answers[0]
    assert isinstance(await verify(codes, code, "right", client="bank"), CodeRefused)


async def test_failures_of_an_address(database: Database, generator: CountingCodeGenerator) -> None:
    """A limit on failures of one address holds at all recipients."""
    codes = guarded(database, generator, replace(NO_LIMITS, ip_failures=1))

    async def asked(email: str, ip: str | None) -> type[object]:
        name = ip_address(ip) if ip else None
        question = VerifyCode(id=uuid4().hex, email=email, code="123456", ip=name)
        [answer] = await codes.on_verify_code(question)
        return type(answer)

    assert await asked("a@x.example", "2001:db8::1") is CodeRefused
    assert await asked("b@x.example", "2001:db8::2") is CodeUnchecked
    assert await asked("b@x.example", None) is CodeRefused


async def test_no_failure_tells_the_code(
    codes: CodeHandlers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """When the database fails, neither the exception nor the driver's log has the code."""
    caplog.set_level(logging.DEBUG)
    code = await issue(codes)
    await database.write(lambda connection: connection.execute(sa.text("DROP TABLE commands")))
    await database.write(lambda connection: connection.execute(sa.text("DROP TABLE challenges")))
    with pytest.raises(Retry) as verifying:
        await verify(codes, code)
    with pytest.raises(Retry) as issuing:
        await issue(codes, "command-2")

    for failure in (verifying.value, issuing.value):
        assert code not in "".join(traceback.format_exception(failure))
    assert code not in caplog.text


@pytest.fixture
def watched(database: Database) -> Iterator[Work]:
    """Record the work of guesses from here on."""
    del database  # opened first
    with watching() as seen:
        yield seen


async def test_refusals_are_the_same_work(
    database: Database, generator: CountingCodeGenerator, clock: Clock, watched: Work
) -> None:
    """Every refusal has the same statements and digests, in order."""
    works = list[Work]()
    store = ChallengeStore(database, FREE, clock)
    codes = handlers(store, generator, replace(NO_LIMITS, client_failures=100))

    async def refused(email: str, code: str) -> None:
        watched.clear()
        question = VerifyCode(id=f"watched-{len(works)}", email=email, code=code)
        [answer] = await codes.on_verify_code(question)
        assert isinstance(answer, CodeRefused)
        works.append(deepcopy(watched))

    code = await issue(codes)
    await refused("nobody@example.com", code)
    await refused(EMAIL, wrong(code))
    await verify(codes, code)
    await refused(EMAIL, code)
    code = await issue(codes, "command-2")
    for number in range(5):
        await verify(codes, wrong(code), f"guess-{number}")
    await refused(EMAIL, code)
    code = await issue(codes, "command-3")
    clock.seconds += 600
    await refused(EMAIL, code)

    assert works == [works[0]] * len(works)
    assert works[0].hashed == 2
    assert len(works[0].statements) > 3
