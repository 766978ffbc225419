"""Tests of passing on a whole mail, as it is or in 7 bits."""

import base64
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from services.sender.mail.passing import in_7bit, passed_on
from services.sender.store import ClaimStore
from shared.contracts import EmailDelivered, SendEmail, Stage
from tests.sender.commands import NOW, a_command
from tests.sender.keys import PUBLIC
from tests.sender.mails import a_pool, a_relay, ends
from tests.sender.scripted import CHUNKING, scripted
from tests.sender.senders import SIGNING, a_sender
from tests.sender.verifier import signatures, verifies

HEAD = (
    b"From:Ann <ann@our.example>\r\nmessage-id:  <1@our.example>\r\n"
    b"Subject: Hi\r\n\tthere\r\nX-Odd:\r\n"
)
ASCII = HEAD + b"\r\n.\r\n..\r\nHello \t\r\n\r\n"
EIGHT_BIT = HEAD + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
EIGHT_BIT += "\r\nGrüße\r\n".encode()


def whole(mail: bytes = ASCII, *to: str, **more: Any) -> SendEmail:  # noqa: ANN401 -- fields of the contract
    """Return the command of a whole mail."""
    fields = {
        "text": None,
        "from_": "Ann <ann@our.example>",
        "message_id": "<1@our.example>",
        "mime": base64.b64encode(mail).decode(),
        "created_at": NOW,
    }
    return a_command(*to, **(fields | more))


def multipart() -> bytes:
    """Return a mail with 8-bit parts at two depths, and one in 7 bits."""
    inner = EmailMessage()
    inner["Subject"] = "Inner"
    inner.set_content("Grüße, innen\n", cte="8bit")
    mail = EmailMessage()
    mail["From"], mail["Message-ID"] = "ann@our.example", "<1@our.example>"
    mail.set_content("Grüße\n", cte="8bit")
    mail.add_alternative("<p>Gr&uuml;&szlig;e</p>\n", subtype="html", cte="7bit")
    mail.add_attachment(inner)
    return mail.as_bytes(policy=policy.SMTP)


def test_as_it_is() -> None:
    """The octets and the envelope are those that were handed over."""
    mail = passed_on(whole(ASCII, "bob@x.example", "eve@x.example"), ASCII)

    assert mail.content == ASCII
    assert mail.recipients == ("bob@x.example", "eve@x.example")
    assert (mail.sender, mail.needs_smtputf8, mail.to_7bit) == ("ann@our.example", False, None)


@pytest.mark.parametrize("sender", ["", "bounces@our.example"])
def test_return_path(sender: str) -> None:
    """Reports go where the program has asked for them, or nowhere."""
    assert passed_on(whole(envelope_from=sender), ASCII).sender == sender


async def test_builder() -> None:
    """A mail keeps its Message-ID and its octets behind its signature, at each attempt."""
    first, second = [await SIGNING.build(whole(attempt=attempt), NOW) for attempt in (1, 2)]

    assert first.content == second.content
    assert first.content.endswith(ASCII)
    assert verifies(first.content, signatures(first.content)[0], PUBLIC[0])
    assert SIGNING.message_id(whole()) == "<1@our.example>"


@pytest.mark.parametrize("content", [EIGHT_BIT, multipart()])
def test_7bit(content: bytes) -> None:
    """A mail in 7 bits has the same parts, and the same octets each time."""
    made = in_7bit(content)

    assert made.isascii()
    assert made == in_7bit(content)
    assert b"8bit" not in made
    before, after = (message_from_bytes(each, policy=policy.default) for each in (content, made))
    texts = [
        [part.get_content().strip() for part in mail.walk() if not part.is_multipart()]
        for mail in (before, after)
    ]
    assert texts[0] == texts[1]


def test_7bit_header() -> None:
    """The header of a mail in 7 bits keeps its octets, but for the coding of its body."""
    assert in_7bit(EIGHT_BIT).startswith(HEAD)


async def test_offered(claims: ClaimStore) -> None:
    """A relay that takes 8-bit bodies is told of one, and gets it as it is."""
    offer = {"EHLO": b"250-scripted.invalid\r\n250 8BITMIME\r\n"}
    async with scripted(offer) as server, a_pool(a_relay(server.port)) as pool:
        (event,) = await a_sender(pool, claims).on_send_email(whole(EIGHT_BIT))

    assert isinstance(event, EmailDelivered)
    assert event.message_id == "<1@our.example>"
    assert b"MAIL FROM:<ann@our.example> BODY=8BITMIME\r\n" in server.lines
    assert server.content == EIGHT_BIT


async def test_not_offered(claims: ClaimStore) -> None:
    """A relay that does not take 8-bit bodies gets 7 bits, signed after the conversion."""
    async with scripted({}) as server, a_pool(a_relay(server.port)) as pool:
        sender = replace(a_sender(pool, claims), builder=SIGNING)
        await sender.on_send_email(whole(EIGHT_BIT))

    content = server.content
    assert content.isascii()
    assert b"MAIL FROM:<ann@our.example>\r\n" in server.lines
    assert verifies(content, signatures(content)[0], PUBLIC[0])
    assert message_from_bytes(content).get_payload(decode=True) == "Grüße\r\n".encode()


@pytest.mark.parametrize("is_proven", [False, True], ids=["trial", "joined"])
@pytest.mark.parametrize("offered", [True, False], ids=["8BITMIME", "7 bits"])
async def test_by_bdat(monkeypatch: pytest.MonkeyPatch, *, is_proven: bool, offered: bool) -> None:
    """MAIL announces an 8-bit content and its size; without 8BITMIME both are of its 7 bits."""
    monkeypatch.setattr("services.sender.smtp.relay.MAX_JOINED_IDLE_SECONDS", 60.0)
    more = b"250-8BITMIME\r\n" if offered else b""
    words = CHUNKING["EHLO"].replace(b"250 ", more + b"250-SIZE\r\n250 ")
    mail = passed_on(whole(EIGHT_BIT), EIGHT_BIT)
    async with scripted({"EHLO": words}) as server, a_pool(a_relay(server.port)) as pool:
        for _ in range(1 + is_proven):
            assert ends(await pool.send(mail)) == [(Stage.DOT, 250)]

    content, body = (EIGHT_BIT, b" BODY=8BITMIME") if offered else (in_7bit(EIGHT_BIT), b"")
    first = content.index(b"\r\n") + 2
    chunks = [content] if is_proven else [content[:first], content[first:]]
    assert server.chunks[-len(chunks) :] == chunks
    assert {line for line in server.lines if line.startswith(b"MAIL ")} == {
        b"MAIL FROM:<ann@our.example> SIZE=%d%b\r\n" % (len(content), body)
    }
    assert server.heard["DATA"] == 0


async def test_a_first_line_like_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """No relay has a trial of BDAT with a first line that it may read as a command."""
    monkeypatch.setattr("services.sender.smtp.relay.MAX_JOINED_IDLE_SECONDS", 60.0)
    odd, usual = (passed_on(whole(each), each) for each in (b"RSET : x\r\n" + ASCII, ASCII))
    async with scripted(CHUNKING) as server, a_pool(a_relay(server.port)) as pool:
        results = [ends(await pool.send(mail)) for mail in (odd, usual, odd)]

    assert results == [[(Stage.DOT, 250)]] * 3
    assert (server.heard["DATA"], server.heard["LAST"]) == (1, 2)
    assert server.chunks[-1] == odd.content
