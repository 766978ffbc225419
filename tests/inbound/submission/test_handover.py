"""Tests of the command of a mail that is handed over."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbound.envelope import Refused
from services.inbound.submission.handover import _FIELDS, AcceptanceRules, Handover
from shared.contracts import Category, decode, encode, mime
from shared.contracts.fields import Tag
from tests.gateway.api.test_mistakes import JARGON
from tests.inbound.doors import MAIL, NOW, SHOP

RULES = AcceptanceRules(Category.BULK, lambda: NOW, lambda: "new-id")
MAIL_OF_SHOP = Handover(SHOP, "ann@shop.example", ("bob@x.example", "eve@x.example"), MAIL)


def content(mail: bytes) -> bytes:
    """Return the octets that are sent of a mail."""
    return mime.decode(RULES.command(replace(MAIL_OF_SHOP, content=mail)).mime or "")


def refusal(mail: bytes) -> str:
    """Return the reply to a mail that is refused."""
    with pytest.raises(Refused) as refused:
        content(mail)
    assert "\n" not in refused.value.reply
    return refused.value.reply


def test_same_id() -> None:
    """The id follows from the client, the Message-ID and the recipients in any order."""
    first = RULES.command(MAIL_OF_SHOP)
    others = [
        replace(MAIL_OF_SHOP, client=SHOP.model_copy(update={"id": "bank"})),
        replace(MAIL_OF_SHOP, recipients=("bob@x.example",)),
        replace(MAIL_OF_SHOP, content=MAIL.replace(b"<1@", b"<2@")),
    ]
    same = replace(MAIL_OF_SHOP, recipients=MAIL_OF_SHOP.recipients[::-1], content=MAIL + b"x\r\n")

    assert RULES.command(same).id == first.id
    assert len({first.id, *(RULES.command(each).id for each in others)}) == 4
    assert decode(first.routing_key, encode(first)) == first


def test_added() -> None:
    """A mail without Date and Message-ID gets both, in front, and an id of its own."""
    bare = b"From: ann@shop.example\r\n\r\nHi\r\n"
    command = RULES.command(replace(MAIL_OF_SHOP, content=bare))

    assert (command.id, command.message_id) == ("new-id", "<new-id@shop.example>")
    added = b"Date: Sun, 29 Nov 2026 12:00:00 +0000\r\nMessage-ID: <new-id@shop.example>\r\n"
    assert mime.decode(command.mime or "") == added + bare


def test_removed() -> None:
    """Bcc and our own fields are removed, whatever their spelling, and nothing else is changed."""
    private = (
        b"bcc : eve@x.example,\r\n\tbob@x.example\r\nResent-Bcc: a\r\nX-POSTRIDER-TAGS:a=b\r\n"
    )

    assert content(private + MAIL) == MAIL
    assert content(MAIL.replace(b"Subject", private + b"Subject")) == MAIL


def test_options() -> None:
    """The class, the list, labels and the time of a mail come from its header."""
    fields = (
        b"X-Postrider-Category: bulk\r\nX-Postrider-List-Id: news\r\nX-Postrider-Tags: a=b, c=d\r\n"
        b"X-Postrider-Metadata:\r\n =?utf-8?q?=7B=22order=22=3A_=22=C3=A4=22=7D?=\r\n"
        b"X-Postrider-Scheduled-At: 2026-11-30T12:00:00+01:00\r\n"
    )
    command = RULES.command(replace(MAIL_OF_SHOP, content=fields + MAIL))

    assert (command.category, command.list_id) == (Category.BULK, "news")
    assert command.tags == (Tag(name="a", value="b"), Tag(name="c", value="d"))
    assert command.metadata == {"order": "ä"}
    assert command.scheduled_at == NOW + timedelta(hours=23)
    assert content(fields + MAIL) == MAIL


def test_past() -> None:
    """A mail for a time that is over goes to the scheduler with that time, and is sent at once.

    The time by a clock that is ahead would be one to wait for.
    """
    fields = b"X-Postrider-Scheduled-At: 2020-01-01T00:00:00Z\r\n"
    command = RULES.command(replace(MAIL_OF_SHOP, content=fields + MAIL))

    assert command.scheduled_at == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "reply"),
    [
        (b"X-Postrider-Category: spam", "554 5.6.0"),
        (b"X-Postrider-Categroy: bulk", "554 5.6.0"),
        (b"X-Postrider-Tags: a", "554 5.6.0"),
        (b"X-Postrider-Tags: a=b\r\nX-Postrider-Tags: c=d", "554 5.6.0"),
        (b"X-Postrider-Metadata: a=b", "554 5.6.0"),
        (b"X-Postrider-Metadata: " + b"[" * 800, "554 5.6.0"),
        (b"X-Postrider-Metadata: [1]", "554 5.6.0"),
        (b'X-Postrider-Metadata: {"a": "1", "a": "2"}', "554 5.6.0"),
        (b"X-Postrider-Scheduled-At: tomorrow", "554 5.6.0"),
        (b"X-Postrider-Scheduled-At: 2027-11-30T12:00:00Z", "554 5.6.0"),
        (b"X-Postrider-Scheduled-At: 20261224", "554 5.6.0"),
        (b"X-Postrider-Scheduled-At: 1798041600", "554 5.6.0"),
        (b"X-Postrider-Scheduled-At: 2026-12-24T18:00:00", "554 5.6.0"),
        (b"X-Postrider-Scheduled-At:", "554 5.6.0"),
        (b"X-Postrider-Category: transactional\r\nX-Postrider-List-Id: news", "554 5.6.0"),
        (b"From: ann@shop.example", "554 5.6.0"),
        (b"Sender: eve@other.example", "550 5.7.1"),
        (b"Sender: eve", "554 5.6.0"),
        (b"Message-ID: <2@shop.example>", "554 5.6.0"),
        (b"\r\n".join([b"Received: by x"] * 51), "554 5.4.6"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_refused(field: bytes, reply: str) -> None:
    """A mail with a field that cannot be as it is meant is refused."""
    assert refusal(field + b"\r\n" + MAIL).startswith(reply)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            b"X-Postrider-Category: spam",
            "X-Postrider-Category: must be 'otp', 'transactional' or 'bulk'",
        ),
        (
            b"X-Postrider-Tags: a",
            "X-Postrider-Tags.0.value: must be 1 to 256 letters, digits, underscores and hyphens",
        ),
        (b"X-Postrider-Metadata: [1]", "X-Postrider-Metadata: must be a JSON object"),
        (b"X-Postrider-List-Id: a b", "X-Postrider-List-Id: must be 1 to 100 letters, digits,"),
        (
            b"X-Postrider-Category: transactional\r\nX-Postrider-List-Id: news",
            "refused: must be bulk to have a `list_id`",
        ),
        (b"X-Postrider-Tags: a\r\nX-Postrider-Category: spam", "; X-Postrider-Tags.0.value: "),
        (b"X-Postrider-Scheduled-At: 20261224", "X-Postrider-Scheduled-At as a date and time"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_named(fields: bytes, words: str) -> None:
    """A refusal names the header field, since its reader knows no field of a command."""
    assert words in refusal(fields + b"\r\n" + MAIL)


@pytest.mark.parametrize("name", sorted(_FIELDS.values()))
def test_plain_words(name: str) -> None:
    """No refusal of a field has the terms of Python, of the validator or of regular expressions."""
    values = (
        *(
            "",
            "a",
            "a b",
            "a=b c",
            "=b",
            "=",
            "spam",
            "x" * 101,
            "a=" + "x" * 257,
            "1",
            "2026-13-01",
        ),
        *("[1]", "5", "{}", '{"": "x"}', '{"a": 5}', '{"a": null}', '{"a": {}}', "{"),
        *(f'{{"{"k" * 41}": "x"}}', f'{{"k": "{"x" * 501}"}}', "2026-12-24T18:00:00+99:00"),
        *(", ".join(f"a{number}=b" for number in range(count)) for count in (11, 100)),
        json.dumps({f"k{number}": "x" for number in range(21)}),
        *("9999-12-31T23:59:59Z", "1960-01-01T00:00:00Z"),
    )
    refused = [refused_words(f"{name}: {value}\r\n".encode()) for value in values]
    texts = [text for text in refused if text]

    assert texts
    for text in texts:
        assert name in text, text
        assert not JARGON.search(text), text


def refused_words(fields: bytes) -> str:
    """Return the words of a refusal, empty for none."""
    try:
        RULES.command(replace(MAIL_OF_SHOP, content=fields + MAIL))
    except Refused as refused:
        return refused.reply
    return ""


@pytest.mark.parametrize("value", [b"ann", b"<a b@x>", b"<a@x> <b@x>", b"", "<ä@x>".encode()])
def test_odd_message_id(value: bytes) -> None:
    """A Message-ID that is none is refused, since the mail keeps it."""
    assert refusal(MAIL.replace(b"<1@shop.example>", value)).startswith("554 5.6.0")


def test_any_sender() -> None:
    """A client without senders may use any."""
    client = SHOP.model_copy(update={"senders": None})
    mail = MAIL.replace(b"ann@shop", b"ann@other")

    command = RULES.command(replace(MAIL_OF_SHOP, client=client, content=mail))
    assert command.from_ == "Ann <ann@other.example>"


@given(st.binary(max_size=300), st.text(max_size=100))
def test_any_mail(octets: bytes, text: str) -> None:
    """Any octets make a command, or are refused by one line."""
    named = b"From: ann@shop.example\r\nX-Postrider-Metadata: " + text.encode() + b"\r\n"
    for mail in (octets, MAIL + octets + b"\r\n", octets + b"\r\n" + MAIL, named + MAIL):
        with suppress(Refused):
            command = RULES.command(replace(MAIL_OF_SHOP, content=mail))
            assert decode(command.routing_key, encode(command)) == command
