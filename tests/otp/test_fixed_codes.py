"""Fixed codes, by themselves and with handlers on a real store."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError
from structlog.testing import capture_logs

from services.otp.codes import (
    FIXED_ISSUED,
    FIXED_VERIFIED,
    CodeScope,
    FixedCode,
    FixedCodes,
    FixedCodeTable,
)
from services.otp.handlers import CodeHandlers
from services.otp.limits import CodeLimits
from services.otp.service import log_fixed_codes
from services.otp.store import ChallengeStore
from shared.contracts import (
    CodeIssued,
    CodeRefused,
    CodeVerified,
    CodeWithheld,
    IssueCode,
    SendEmail,
    VerifyCode,
    encode,
)
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import FREE, POLICY
from tests.otp.handling import SEALER, CountingCodeGenerator, code_in, handlers, mail_in, verify

EMAIL = "anna@example.com"  # that `verify` asks about
CODE = "271828"
SCOPE = CodeScope("shop", "sign-in", "Anna@example.com")
END = datetime(2027, 1, 31, tzinfo=UTC)
END_MS = int(END.timestamp() * 1000)


def fixed_until(until: datetime) -> FixedCodes:
    """Return the fixed code of one address."""
    return FixedCodes({"Anna@Example.com": FixedCode(code=CODE, until=until)})


def test_a_fixed_code_is_right_for_all_spellings_until_its_end() -> None:
    """A fixed code is right for its address in any spelling, and is none from its end on."""
    codes = fixed_until(END)

    assert codes.has(SCOPE, END_MS - 1)
    assert codes.is_right(SCOPE, " 271-828 ", END_MS - 1)
    assert not codes.is_right(SCOPE, "271829", END_MS - 1)
    assert not codes.is_right(SCOPE, "\u0662\u0667\u0661\u0668\u0662\u0668", END_MS - 1)
    assert not codes.has(SCOPE, END_MS)
    assert not codes.is_right(SCOPE, CODE, END_MS)
    assert not codes.has(CodeScope("shop", "sign-in", "ben@example.com"), 0)


@pytest.mark.parametrize(
    "table",
    [
        {"anna@example.com": {"code": CODE}},
        {"anna@example.com": {"until": END}},
        {"anna@example.com": {"code": "123", "until": END}},
        {"anna@example.com": {"code": "123456789", "until": END}},
        {"anna@example.com": {"code": "27182x", "until": END}},
        {"anna@example.com": {"code": 271828, "until": END}},
        {"anna@example.com": {"code": CODE, "until": "2027-01-31"}},
        {"anna@example.com": {"code": CODE, "until": END, "client": "shop"}},
        {"anna": {"code": CODE, "until": END}},
        {each: {"code": CODE, "until": END} for each in ("anna@example.com", "Anna@example.com")},
        {f"a{n}@example.com": {"code": CODE, "until": END} for n in range(101)},
    ],
)
def test_a_table_with_mistakes_is_refused(table: Mapping[str, object]) -> None:
    """Each address is there once, with a code of 4 to 8 digits and an end."""
    with pytest.raises(ValidationError):
        TypeAdapter(FixedCodeTable).validate_python(table)


def test_what_is_logged_at_the_start() -> None:
    """The log has the number of addresses and those that have expired, and no code."""
    codes = FixedCodes(
        {
            "anna@example.com": FixedCode(code=CODE, until=END),
            "ben@example.com": FixedCode(code=CODE, until=END + timedelta(days=1)),
        }
    )
    with capture_logs() as lines:
        log_fixed_codes(codes, END)
        log_fixed_codes(FixedCodes({}), END)

    assert [line["event"] for line in lines] == ["a test code has expired", "test codes are on"]
    assert lines[0]["email"] == "anna@example.com"
    assert lines[1]["addresses"] == 1
    assert CODE not in str(lines)
    assert CODE not in repr(codes)


@pytest.fixture
def testers(database: Database, generator: CountingCodeGenerator, clock: Clock) -> CodeHandlers:
    """Return handlers with a fixed code that ends an hour from now."""
    until = datetime.fromtimestamp(clock.seconds, UTC) + timedelta(hours=1)
    store = ChallengeStore(database, FREE, clock)
    return replace(handlers(store, generator), fixed_codes=fixed_until(until))


def request(number: int = 1, email: str = EMAIL) -> IssueCode:
    """Return a request for a code."""
    return IssueCode(id=f"command-{number}", email=email)


async def test_a_fixed_code_is_answered_and_not_mailed(testers: CodeHandlers) -> None:
    """A request is answered as any other, counted, and causes no mail and no trace of the code."""
    before = FIXED_ISSUED._value.get()
    [issued] = await testers.on_issue_code(request())
    [again] = await testers.on_issue_code(request())

    assert isinstance(issued, CodeIssued)
    assert again == issued
    assert FIXED_ISSUED._value.get() == before + 2
    assert CODE.encode() not in encode(issued)


async def test_a_fixed_code_is_right_once_for_each_request(testers: CodeHandlers) -> None:
    """Without a request it is wrong; after one it is right once, for the same question again."""
    before = FIXED_VERIFIED._value.get()
    assert isinstance(await verify(testers, CODE, "q0"), CodeRefused)

    await testers.on_issue_code(request())
    answers = [await verify(testers, CODE, name) for name in ("q1", "q1", "q2")]
    await testers.on_issue_code(request(2))
    later = await verify(testers, "271 828", "q3")

    assert [type(each) for each in (*answers, later)] == [
        CodeVerified,
        CodeVerified,
        CodeRefused,
        CodeVerified,
    ]
    assert FIXED_VERIFIED._value.get() == before + 3


async def test_the_derived_code_of_a_tester_is_wrong(
    testers: CodeHandlers, codes: CodeHandlers
) -> None:
    """The code that would have been mailed is wrong: one address has one code."""
    await testers.on_issue_code(request())
    derived = code_in(mail_in(await codes.on_issue_code(request())))

    assert isinstance(await verify(testers, derived), CodeRefused)


async def test_guesses_at_a_fixed_code_are_limited(testers: CodeHandlers) -> None:
    """After five wrong guesses the fixed code is wrong too."""
    await testers.on_issue_code(request())
    for number in range(5):
        assert isinstance(await verify(testers, "000000", f"q{number}"), CodeRefused)

    assert isinstance(await verify(testers, CODE, "q5"), CodeRefused)


async def test_requests_for_a_fixed_code_are_limited(
    database: Database, generator: CountingCodeGenerator, clock: Clock
) -> None:
    """The cooldown and the limits on mails hold although nothing is mailed."""
    limits = CodeLimits(2, 0, 0, 0, 0, 0)
    store = ChallengeStore(database, POLICY, clock)
    until = datetime.fromtimestamp(clock.seconds, UTC) + timedelta(hours=1)
    codes = replace(handlers(store, generator, limits), fixed_codes=fixed_until(until))

    first = await codes.on_issue_code(request(1))
    early = await codes.on_issue_code(request(2))
    clock.seconds += POLICY.cooldown / 1000
    second = await codes.on_issue_code(request(3))
    clock.seconds += POLICY.cooldown / 1000
    third = await codes.on_issue_code(request(4))

    kinds = [type(each) for [each] in (first, early, second, third)]
    assert kinds == [CodeIssued, CodeWithheld, CodeIssued, CodeWithheld]


async def test_after_its_end_a_code_is_mailed_again(testers: CodeHandlers, clock: Clock) -> None:
    """From its end on the fixed code is wrong, also for a request before, and codes are mailed."""
    await testers.on_issue_code(request())
    clock.seconds += 3600

    assert isinstance(await verify(testers, CODE), CodeRefused)
    mail = mail_in(await testers.on_issue_code(request(2)))
    assert isinstance(await verify(testers, code_in(mail), "q2"), CodeVerified)


async def test_other_addresses_get_their_codes_by_mail(testers: CodeHandlers) -> None:
    """An address that is not listed has its own code, and never the fixed one."""
    mail, _ = await testers.on_issue_code(request(email="ben@example.com"))
    question = VerifyCode(id="q1", email="ben@example.com", code=CODE)
    [answer] = await testers.on_verify_code(question)

    assert isinstance(mail, SendEmail)
    assert mail.sealed
    assert CODE.encode() not in SEALER.open(mail.sealed, context=mail.id)
    assert isinstance(answer, CodeRefused)
