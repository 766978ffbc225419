"""What the otp service answers, on a real store."""

import asyncio
import logging
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from services.otp import folder
from services.otp.codes import Codebook
from services.otp.handlers import OneTimeCodes
from services.otp.limits import Limits
from services.otp.mail import Imprint, MailWriter
from services.otp.service import MIGRATIONS
from services.otp.store import ChallengeStore
from shared.contracts import (
    CancelCode,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeVerified,
    CodeWithheld,
    Contract,
    IssueCode,
    SendEmail,
    VerifyCode,
    Withholding,
    encode,
)
from shared.database import Database
from shared.errors import Retry
from tests.clock import Clock
from tests.otp.asking import FREE, NO_LIMITS, RULES
from tests.otp.reading import SEALER, CountingCodebook, code_in, mail_in, wrong
from tests.otp.work import Work, watching

EMAIL = "anna@example.com"


BOOK = Codebook([bytes(32)])


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("otp", None, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def codebook() -> CountingCodebook:
    """Give the codebook of one test."""
    return CountingCodebook([bytes(32)])


@pytest.fixture
def codes(database: Database, codebook: CountingCodebook) -> OneTimeCodes:
    """Give the handlers of one test."""
    store = ChallengeStore(database, FREE)
    writer = MailWriter(folder.shipped(), Imprint(from_="Shop <shop@example.com>"))
    return OneTimeCodes(store, codebook, SEALER, writer, NO_LIMITS)


async def issue(codes: OneTimeCodes, command_id: str = "command-1") -> str:
    """Ask for a code and read it in the mail."""
    return code_in(mail_in(await codes.on_issue_code(IssueCode(id=command_id, email=EMAIL))))


async def verify(
    codes: OneTimeCodes, code: str, request_id: str = "request-1", client: str | None = None
) -> Contract:
    """Ask whether a code is right."""
    question = VerifyCode(id=request_id, email=EMAIL, code=code, client=client)
    (answer,) = await codes.on_verify_code(question)
    return answer


async def test_a_code_is_mailed(codes: OneTimeCodes) -> None:
    """Asking for a code mails one to the address and says so, both with the same expiry."""
    command = IssueCode(id="command-1", email=EMAIL, client="shop")
    mail, issued = await codes.on_issue_code(command)

    assert isinstance(mail, SendEmail)
    assert isinstance(issued, CodeIssued)
    assert mail.routing_key == "email.send.otp"
    assert mail.recipients == (EMAIL,)
    assert mail.from_ == "Shop <shop@example.com>"
    assert mail.client == "shop"
    assert mail.expires_at == issued.expires_at
    assert issued.email == EMAIL


async def test_the_mail_is_what_was_asked_for(codes: OneTimeCodes) -> None:
    """The mail is in the language and for the purpose of the command, for as long as is left."""
    command = IssueCode(id="command-1", email=EMAIL, purpose="sign-in", locale="de-AT")
    mail = mail_in(await codes.on_issue_code(command))

    assert mail.sealed
    text = orjson.loads(SEALER.open(mail.sealed, context=mail.id))["text"]
    assert mail.subject == "Ihr Anmeldecode"
    assert text.startswith("Ihr Anmeldecode lautet:")
    assert "Minuten g\u00fcltig." in text


async def test_the_code_is_nowhere_in_the_clear(codes: OneTimeCodes) -> None:
    """What is published has the code under the seal alone."""
    returned = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    code = code_in(mail_in(returned))
    answer = await verify(codes, code)

    for message in (*returned, answer):
        assert isinstance(message, Contract)
        # Not as a number of its own: the ids of events have all digits.
        assert not re.search(rb"\b%b\b" % code.encode(), encode(message))
        assert code not in repr(message)


async def test_the_same_command_mails_the_same(codes: OneTimeCodes) -> None:
    """A command that is handled twice gives the same ids and the same code."""
    first = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    second = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))

    assert [getattr(item, "id", None) for item in first] == [
        getattr(item, "id", None) for item in second
    ]
    assert code_in(mail_in(first)) == code_in(mail_in(second))


async def test_a_command_id_is_known_to_its_holder_alone(codes: OneTimeCodes) -> None:
    """Whoever repeats the id of another's command is not mailed the other's code."""
    code = await issue(codes)
    commands = [
        IssueCode(id="command-1", email="eve@example.com"),
        IssueCode(id="command-1", email=EMAIL, client="eve"),
        IssueCode(id="command-1", email=EMAIL, purpose="sign-in"),
    ]
    mails = [mail_in(await codes.on_issue_code(command)) for command in commands]

    assert code not in map(code_in, mails)
    assert len({mail.id for mail in mails}) == 3


async def test_another_command_mails_the_code_again(codes: OneTimeCodes) -> None:
    """A resend is another mail with the same code."""
    first = mail_in(await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL)))
    second = mail_in(await codes.on_issue_code(IssueCode(id="command-2", email=EMAIL)))

    assert first.id != second.id
    assert code_in(first) == code_in(second)
    assert first.expires_at == second.expires_at


async def test_right_once(codes: OneTimeCodes) -> None:
    """A right code is verified, for the same request again, and refused for any other."""
    code = await issue(codes)
    first = await verify(codes, code)
    again = await verify(codes, code)
    other = await verify(codes, code, "request-2")

    assert isinstance(first, CodeVerified)
    assert isinstance(again, CodeVerified)
    assert again.id == first.id
    assert isinstance(other, CodeRefused)


async def test_a_request_id_is_no_code(codes: OneTimeCodes) -> None:
    """The id of the request that was verified does not verify another code."""
    code = await issue(codes)
    await verify(codes, code)

    assert isinstance(await verify(codes, wrong(code)), CodeRefused)


async def test_a_wrong_guess_uses_nothing_up(codes: OneTimeCodes) -> None:
    """After a wrong guess the right code is still right."""
    code = await issue(codes)

    assert isinstance(await verify(codes, wrong(code), "request-1"), CodeRefused)
    assert isinstance(await verify(codes, code, "request-2"), CodeVerified)


async def test_for_its_client_alone(codes: OneTimeCodes) -> None:
    """A code that one client asked for is not right for another."""
    code = await issue(codes)

    assert isinstance(await verify(codes, code, client="other"), CodeRefused)
    assert isinstance(await verify(codes, code), CodeVerified)


async def test_refusals_are_alike(codes: OneTimeCodes) -> None:
    """Unknown, wrong, used and exhausted give one answer that tells nothing of which it was."""
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


async def test_a_hundred_right_answers_at_once(codes: OneTimeCodes) -> None:
    """Of 100 right answers at once exactly one is verified."""
    code = await issue(codes)
    answers = await asyncio.gather(
        *(verify(codes, code, f"request-{number}") for number in range(100))
    )

    assert sum(isinstance(answer, CodeVerified) for answer in answers) == 1


async def test_fifty_wrong_guesses_at_once(codes: OneTimeCodes, codebook: CountingCodebook) -> None:
    """Of 50 wrong guesses at once five are compared, and then no code is right."""
    code = await issue(codes)
    await asyncio.gather(*(verify(codes, wrong(code), f"request-{number}") for number in range(50)))

    assert codebook.compared == 5
    assert isinstance(await verify(codes, code, "request-late"), CodeRefused)


async def test_no_failure_tells_the_code(
    codes: OneTimeCodes, database: Database, caplog: pytest.LogCaptureFixture
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


def guarded(database: Database, codebook: Codebook, limits: Limits = NO_LIMITS) -> OneTimeCodes:
    """Give the handlers of a deployment that keeps its cooldown and these limits."""
    writer = MailWriter(folder.shipped(), Imprint())
    return OneTimeCodes(ChallengeStore(database, RULES), codebook, SEALER, writer, limits)


async def test_too_early(database: Database, codebook: CountingCodebook) -> None:
    """Within the cooldown nothing is mailed and nothing said to others, only to the asker."""
    codes = guarded(database, codebook)
    _, issued = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    (withheld,) = await codes.on_issue_code(IssueCode(id="command-2", email=EMAIL))

    assert isinstance(issued, CodeIssued)
    assert (issued.resend_at - issued.at).total_seconds() == 60
    assert isinstance(withheld, CodeWithheld)
    assert withheld.reason is Withholding.COOLDOWN
    assert 50 < withheld.retry_after <= 60


async def test_over_a_limit(database: Database, codebook: CountingCodebook) -> None:
    """Past a limit nothing is mailed, whoever is asked for; each limit is told alike."""
    codes = guarded(database, codebook, Limits(0, 0, 0, 1, 0, 0))
    ip = ip_address("2001:db8::1")
    neighbour = ip_address("2001:db8::2")
    await codes.on_issue_code(IssueCode(id="command-1", email="ben@example.com", ip=ip))
    (withheld,) = await codes.on_issue_code(IssueCode(id="c-2", email=EMAIL, ip=neighbour))

    assert isinstance(withheld, CodeWithheld)
    assert withheld.reason is Withholding.LIMIT
    assert 3600 < withheld.retry_after <= 3660


@pytest.mark.parametrize("length", [4, 5, 6, 7, 8])
async def test_as_long_as_was_asked_for(codes: OneTimeCodes, length: int) -> None:
    """A code has the digits of its command, and is right."""
    command = IssueCode(id="command-1", email=EMAIL, length=length)
    code = code_in(mail_in(await codes.on_issue_code(command)))

    assert len(code) == length
    assert isinstance(await verify(codes, code), CodeVerified)


async def test_for_its_purpose_alone(codes: OneTimeCodes) -> None:
    """A code to sign in confirms no address, and is not used up by the attempt."""
    command = IssueCode(id="command-1", email=EMAIL, purpose="sign-in")
    code = code_in(mail_in(await codes.on_issue_code(command)))
    question = VerifyCode(id="request-2", email=EMAIL, code=code, purpose="sign-in")

    assert isinstance(await verify(codes, code), CodeRefused)
    (answer,) = await codes.on_verify_code(question)
    assert isinstance(answer, CodeVerified)
    assert answer.purpose == "sign-in"


async def test_for_its_spelling_alone(codes: OneTimeCodes) -> None:
    """Where two spellings are two people, none of them is verified by the other's mail."""
    code = await issue(codes)
    question = VerifyCode(id="request-1", email=EMAIL.title(), code=code)
    (answer,) = await codes.on_verify_code(question)

    assert isinstance(answer, CodeRefused)


async def test_an_answer_is_repeated(codes: OneTimeCodes, codebook: CountingCodebook) -> None:
    """The same request gets the same answer to the byte, right or wrong, and counts once."""
    code = await issue(codes)
    refused = [await verify(codes, wrong(code)) for _ in range(10)]
    verified = [await verify(codes, code, "request-2") for _ in range(10)]

    assert len({encode(answer) for answer in refused}) == 1
    assert len({encode(answer) for answer in verified}) == 1
    assert isinstance(refused[0], CodeRefused)
    assert isinstance(verified[0], CodeVerified)
    assert codebook.compared == 20


async def test_another_code_is_another_guess(codes: OneTimeCodes) -> None:
    """Nobody guesses for free under the id of an earlier request."""
    code = await issue(codes)
    for step in range(1, 6):
        await verify(codes, f"{(int(code) + step) % 1_000_000:06}", "request-1")

    assert isinstance(await verify(codes, code, "request-1"), CodeRefused)


async def test_a_cancelled_code_is_wrong(codes: OneTimeCodes) -> None:
    """After its cancellation a code is right no more; the answer tells nothing of what was."""
    mail, issued = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    assert isinstance(mail, SendEmail)
    assert isinstance(issued, CodeIssued)
    command = CancelCode(id="cancel-1", challenge_id=issued.challenge_id)
    first, again = await codes.on_cancel_code(command), await codes.on_cancel_code(command)
    (unknown,) = await codes.on_cancel_code(CancelCode(id="cancel-2", challenge_id="none"))

    assert isinstance(await verify(codes, code_in(mail)), CodeRefused)
    assert first == again
    assert isinstance(first[0], CodeCancelled)
    assert isinstance(unknown, CodeCancelled)


@pytest.fixture
def watched(database: Database) -> Iterator[Work]:
    """Watch what a guess costs, from here on."""
    del database  # opened first
    with watching() as seen:
        yield seen


async def test_refusals_are_the_same_work(
    database: Database, codebook: CountingCodebook, watched: Work
) -> None:
    """Wrong, used, expired, exhausted, unknown: the same statements and digests, in order."""
    clock, works = Clock(), list[Work]()
    writer = MailWriter(folder.shipped(), Imprint())
    store = ChallengeStore(database, FREE, clock)
    codes = OneTimeCodes(store, codebook, SEALER, writer, NO_LIMITS)

    async def refused(email: str, code: str) -> None:
        watched.clear()
        question = VerifyCode(id=f"watched-{len(works)}", email=email, code=code)
        (answer,) = await codes.on_verify_code(question)
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
    assert len(works[0].said) > 3
