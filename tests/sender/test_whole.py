"""Tests of the sender as a whole: a command in, SMTP at a real or a scripted relay, events out."""

from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from ops.simulator.simulator import Simulator
from services.sender.store import ClaimStore
from shared.contracts import Category, NotAccepted, ReplyClass
from tests.sender.commands import a_command
from tests.sender.mails import a_pool, a_relay
from tests.sender.scripted import scripted
from tests.sender.senders import a_sender


async def test_lines_that_arrive(simulator: Simulator, claims: ClaimStore) -> None:
    """No line of a mail with encoded words or quoted-printable has over 76 characters."""
    command = a_command(
        f"{'é' * 100} <{'l' * 60}@x.example>",
        subject="é" * 60,
        text="x" * 74 + " \né\n" + "y" * 76,
        headers={f"X-{'n' * 58}": "é"},
    )
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await a_sender(pool, claims).on_send_email(command)

    (mail,) = simulator.mailbox.find()
    assert max(map(len, mail.raw.split(b"\r\n"))) == 76


HARD_FAIL = (
    b"550-5.7.26 This message fails to pass SPF checks for a record with a hard fail policy.\r\n"
    b"550 5.7.26 To best protect our users from spam and phishing, it has been blocked.\r\n"
)
NOT_COMPLIANT = (
    b"550-5.7.1 This message is not RFC 5322 compliant, the issue is:\r\n"
    b"550-5.7.1 multiple Subject headers. To reduce the amount of spam sent\r\n"
    b"550 5.7.1 to Gmail, this message has been blocked.\r\n"
)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ({"DOT": HARD_FAIL}, ReplyClass.AUTH_SENDER),
        ({"DOT": NOT_COMPLIANT}, ReplyClass.CONTENT),
        ({"DOT": b"552 5.3.4 too much mail data\r\n"}, ReplyClass.TOO_BIG),
        ({"MAIL": b"552 5.3.4 too much mail data\r\n"}, ReplyClass.TOO_BIG),
        (
            {"RCPT": b"551 No such user; please try <ben@y.example>\r\n"},
            ReplyClass.MAILBOX_DISABLED,
        ),
    ],
)
async def test_why(script: Mapping[str, bytes], found: ReplyClass, claims: ClaimStore) -> None:
    """The reason is found among other words of providers (issue 10, S13)."""
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        (event,) = await a_sender(pool, claims).on_send_email(a_command())

    assert isinstance(event, NotAccepted)
    assert event.final
    assert event.reply_class is found


WIDE = "\uff14\uff11\uff12\uff10\uff12\uff19"  # 412029, full-width


@pytest.mark.parametrize("written", ["412029.", "412 029", "412-029", WIDE, "412\u00a0029"])
@pytest.mark.parametrize("refusal", ["DOT 550", "DOT 451", "RCPT 550", "MAIL 530", "DOT 250"])
async def test_codes_in_replies(written: str, refusal: str, claims: ClaimStore) -> None:
    """A relay that quotes the mail puts no code into an event or a log (issue 10, S15)."""
    verb, code = refusal.split()
    said = f"{code} 5.7.1 rejected: Your code is {written} is it\r\n".encode()
    command = a_command(category=Category.OTP)
    with capture_logs() as logs:
        async with scripted({verb: said}) as server, a_pool(a_relay(server.port)) as pool:
            returned = await a_sender(pool, claims).on_send_email(command)

    assert "Your code is ***" in str(returned)
    assert "029" not in str(returned) + str(logs)
    assert WIDE[3:] not in str(returned) + str(logs)
