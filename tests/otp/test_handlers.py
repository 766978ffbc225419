"""The answers of the otp service, on a real store."""

import asyncio
import re
from ipaddress import ip_address

import orjson
import pytest

from services.otp.handlers import CodeHandlers
from services.otp.limits import CodeLimits
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
from shared.storage.database import Database
from tests.otp.handling import (
    EMAIL,
    SEALER,
    CountingCodeGenerator,
    code_in,
    guarded,
    issue,
    mail_in,
    verify,
    wrong,
)


async def test_a_code_is_mailed(codes: CodeHandlers) -> None:
    """A request mails a code to its address and is answered, both with the same expiry."""
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


async def test_the_mail_is_what_was_asked_for(codes: CodeHandlers) -> None:
    """The mail has the language and purpose of the command, and the time that the code has left."""
    command = IssueCode(id="command-1", email=EMAIL, purpose="sign-in", locale="de-AT")
    mail = mail_in(await codes.on_issue_code(command))

    assert mail.sealed
    text = orjson.loads(SEALER.open(mail.sealed, context=mail.id))["text"]
    assert mail.subject == "Ihr Anmeldecode"
    assert text.startswith("Ihr Anmeldecode lautet:")
    assert "Minuten g\u00fcltig." in text


async def test_the_code_is_nowhere_in_the_clear(codes: CodeHandlers) -> None:
    """Published messages contain the code under the seal alone."""
    returned = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    code = code_in(mail_in(returned))
    answer = await verify(codes, code)

    for message in (*returned, answer):
        assert isinstance(message, Contract)
        # Not as a number of its own: the ids of events have all digits.
        assert not re.search(rb"\b%b\b" % code.encode(), encode(message))
        assert code not in repr(message)


async def test_the_same_command_mails_the_same(codes: CodeHandlers) -> None:
    """A command that is handled twice has the same ids and the same code."""
    first = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    second = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))

    assert [getattr(item, "id", None) for item in first] == [
        getattr(item, "id", None) for item in second
    ]
    assert code_in(mail_in(first)) == code_in(mail_in(second))


async def test_a_command_id_is_known_in_its_scope_alone(codes: CodeHandlers) -> None:
    """A command with the id of another scope's command mails a code of its own."""
    code = await issue(codes)
    commands = [
        IssueCode(id="command-1", email="eve@example.com"),
        IssueCode(id="command-1", email=EMAIL, client="eve"),
        IssueCode(id="command-1", email=EMAIL, purpose="sign-in"),
    ]
    mails = [mail_in(await codes.on_issue_code(command)) for command in commands]

    assert code not in map(code_in, mails)
    assert len({mail.id for mail in mails}) == 3


async def test_another_command_mails_the_code_again(codes: CodeHandlers) -> None:
    """A resend is another mail with the same code."""
    first = mail_in(await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL)))
    second = mail_in(await codes.on_issue_code(IssueCode(id="command-2", email=EMAIL)))

    assert first.id != second.id
    assert code_in(first) == code_in(second)
    assert first.expires_at == second.expires_at


async def test_right_once(codes: CodeHandlers) -> None:
    """A right code is verified, for the same request again, and refused for any other."""
    code = await issue(codes)
    first = await verify(codes, code)
    again = await verify(codes, code)
    other = await verify(codes, code, "request-2")

    assert isinstance(first, CodeVerified)
    assert isinstance(again, CodeVerified)
    assert again.id == first.id
    assert isinstance(other, CodeRefused)


async def test_a_request_id_is_no_code(codes: CodeHandlers) -> None:
    """The id of the request that was verified does not verify another code."""
    code = await issue(codes)
    await verify(codes, code)

    assert isinstance(await verify(codes, wrong(code)), CodeRefused)


async def test_a_wrong_guess_uses_nothing_up(codes: CodeHandlers) -> None:
    """After a wrong guess the right code is still right."""
    code = await issue(codes)

    assert isinstance(await verify(codes, wrong(code), "request-1"), CodeRefused)
    assert isinstance(await verify(codes, code, "request-2"), CodeVerified)


async def test_an_older_mail_is_of_no_use(codes: CodeHandlers) -> None:
    """A replaced code is wrong, though its mail arrives late."""
    old = await issue(codes)
    for number in range(5):
        await verify(codes, wrong(old), f"guess-{number}")
    new = await issue(codes, "command-2")

    assert isinstance(await verify(codes, old, "request-1"), CodeRefused)
    assert isinstance(await verify(codes, new, "request-2"), CodeVerified)


async def test_for_its_client_alone(codes: CodeHandlers) -> None:
    """A code of one client is wrong for another."""
    code = await issue(codes)

    assert isinstance(await verify(codes, code, client="other"), CodeRefused)
    assert isinstance(await verify(codes, code), CodeVerified)


async def test_a_hundred_right_answers_at_once(codes: CodeHandlers) -> None:
    """Of 100 right answers at once exactly one is verified."""
    code = await issue(codes)
    answers = await asyncio.gather(
        *(verify(codes, code, f"request-{number}") for number in range(100))
    )

    assert sum(isinstance(answer, CodeVerified) for answer in answers) == 1


async def test_too_early(database: Database, generator: CountingCodeGenerator) -> None:
    """Within the cooldown nothing is mailed or published; the client is answered."""
    codes = guarded(database, generator)
    _, issued = await codes.on_issue_code(IssueCode(id="command-1", email=EMAIL))
    (withheld,) = await codes.on_issue_code(IssueCode(id="command-2", email=EMAIL))

    assert isinstance(issued, CodeIssued)
    assert (issued.resend_at - issued.at).total_seconds() == 60
    assert isinstance(withheld, CodeWithheld)
    assert withheld.reason is Withholding.COOLDOWN
    assert 50 < withheld.retry_after <= 60


async def test_over_a_limit(database: Database, generator: CountingCodeGenerator) -> None:
    """Past a limit nothing is mailed to any recipient, and the answer has the time to wait."""
    codes = guarded(database, generator, CodeLimits(0, 0, 0, 1, 0, 0))
    ip = ip_address("2001:db8::1")
    neighbour = ip_address("2001:db8::2")
    await codes.on_issue_code(IssueCode(id="command-1", email="ben@example.com", ip=ip))
    (withheld,) = await codes.on_issue_code(IssueCode(id="c-2", email=EMAIL, ip=neighbour))

    assert isinstance(withheld, CodeWithheld)
    assert withheld.reason is Withholding.LIMIT
    assert 3600 < withheld.retry_after <= 3660


@pytest.mark.parametrize("length", [4, 5, 6, 7, 8])
async def test_as_long_as_was_asked_for(codes: CodeHandlers, length: int) -> None:
    """A code has the digits of its command, and is right."""
    command = IssueCode(id="command-1", email=EMAIL, length=length)
    code = code_in(mail_in(await codes.on_issue_code(command)))

    assert len(code) == length
    assert isinstance(await verify(codes, code), CodeVerified)


async def test_for_its_purpose_alone(codes: CodeHandlers) -> None:
    """A code to sign in confirms no address, and is not used up by the attempt."""
    command = IssueCode(id="command-1", email=EMAIL, purpose="sign-in")
    code = code_in(mail_in(await codes.on_issue_code(command)))
    question = VerifyCode(id="request-2", email=EMAIL, code=code, purpose="sign-in")

    assert isinstance(await verify(codes, code), CodeRefused)
    [answer] = await codes.on_verify_code(question)
    assert isinstance(answer, CodeVerified)
    assert answer.purpose == "sign-in"


async def test_for_its_spelling_alone(codes: CodeHandlers) -> None:
    """A code is wrong for another spelling of its address, which may be another person."""
    code = await issue(codes)
    question = VerifyCode(id="request-1", email=EMAIL.title(), code=code)
    [answer] = await codes.on_verify_code(question)

    assert isinstance(answer, CodeRefused)


async def test_an_answer_is_repeated(codes: CodeHandlers, generator: CountingCodeGenerator) -> None:
    """The same request has the same answer to the byte, right or wrong, and counts once."""
    code = await issue(codes)
    refused = [await verify(codes, wrong(code)) for _ in range(10)]
    verified = [await verify(codes, code, "request-2") for _ in range(10)]

    assert len({encode(answer) for answer in refused}) == 1
    assert len({encode(answer) for answer in verified}) == 1
    assert isinstance(refused[0], CodeRefused)
    assert isinstance(verified[0], CodeVerified)
    assert generator.compared == 20


async def test_another_code_is_another_guess(codes: CodeHandlers) -> None:
    """Another code under the id of an earlier request is another guess."""
    code = await issue(codes)
    for step in range(1, 6):
        await verify(codes, f"{(int(code) + step) % 1_000_000:06}", "request-1")

    assert isinstance(await verify(codes, code, "request-1"), CodeRefused)


async def test_a_cancelled_code_is_wrong(codes: CodeHandlers) -> None:
    """A cancelled code is wrong, and the cancellation of an unknown one has the same answer."""
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
