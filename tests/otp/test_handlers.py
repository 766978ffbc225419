"""What the otp service answers, on a real store."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from services.otp import folder
from services.otp.challenge import Challenge, Rules
from services.otp.codes import Codebook
from services.otp.handlers import OneTimeCodes
from services.otp.mail import Imprint, MailWriter
from services.otp.service import MIGRATIONS
from services.otp.store import ChallengeStore
from services.otp.tables import challenges
from shared.contracts import (
    CodeIssued,
    CodeRefused,
    CodeVerified,
    Contract,
    IssueCode,
    SendEmail,
    VerifyCode,
    encode,
)
from shared.database import Database
from shared.sealing import Sealer

EMAIL = "anna@example.com"
SEALER = Sealer([bytes(32)])


class CountingCodebook(Codebook):
    """Counts the guesses that could have been right."""

    compared = 0

    def is_right(self, challenge: Challenge | None, typed: str) -> bool:
        """Compare, and count if there is a challenge."""
        self.compared += challenge is not None
        return super().is_right(challenge, typed)


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
    store = ChallengeStore(database, Rules(600, 5, 6), codebook.key_ids)
    writer = MailWriter(folder.shipped(), Imprint(from_="Shop <shop@example.com>"))
    return OneTimeCodes(store, codebook, SEALER, writer, lambda: datetime.now(UTC))


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
        assert code.encode() not in encode(message)
        assert code not in repr(message)


async def test_the_same_command_mails_the_same(codes: OneTimeCodes) -> None:
    """A command that is handled twice gives the same ids and the same code."""
    first = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    second = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))

    assert [getattr(item, "id", None) for item in first] == [
        getattr(item, "id", None) for item in second
    ]
    assert code_in(mail_in(first)) == code_in(mail_in(second))


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
    await database.write(lambda connection: connection.execute(sa.schema.DropTable(challenges)))
    with pytest.raises(sa.exc.OperationalError) as verifying:
        await verify(codes, code)
    with pytest.raises(sa.exc.OperationalError) as issuing:
        await issue(codes, "command-2")

    for failure in (verifying.value, issuing.value):
        assert code not in "".join(traceback.format_exception(failure))
    assert code not in caplog.text
