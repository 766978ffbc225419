"""Tests of the composed mail, parsed with the standard library."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_string, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.sender.mail.compose import MailDefaults, MailProvider, OutgoingMail, compose
from services.sender.mail.mime import MailContent
from shared.contracts import Category, SendEmail, address
from shared.contracts.attachment import CalendarMethod, CalendarObject
from shared.contracts.fields import END_OF_TIME, EPOCH
from tests.sender import library
from tests.sender.commands import NOW, a_command, a_file

HEAD = MailDefaults("Post <post@our.example>", "id.our.example")
LINE_BREAK = re.compile(r"\r\n|\r|\n")

# Whatever Unicode has but what a mail's text or header may never have.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
LINES = st.lists(
    st.text(st.sampled_from(". \tabä€😀=\x1b-F") | st.characters(exclude_categories=["Cs", "Cc"])),
).map("\n".join)
BODIES = ANY_TEXT | LINES | st.text("x ä", min_size=990, max_size=3000)


def _as_header_text(text: str) -> str:
    try:
        return address.check_header_text(text)
    except ValueError:
        return ""


def _as_mailbox(name: str, local: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        return address.check_mailbox(f'"{escaped}" <{local}@x.example>')
    except ValueError:
        return f"{local}@x.example"


HEADER_TEXT = st.one_of(
    st.text(max_size=900), st.text("aä ", max_size=900), st.text("a=?,;\"'", max_size=900)
).map(_as_header_text)
NAMES = st.text(max_size=200) | st.text('aä, "\\<>@()=?', max_size=200)
MAILBOXES = st.builds(_as_mailbox, NAMES, st.sampled_from(["a", "b.c", "o'x+y", "n" * 64]))
SEVERAL = st.lists(MAILBOXES, max_size=4).map(tuple)
# What the standard library writes without a fault: more than one name that is not ASCII in one
# header, or marks in one, it folds so that commas and quotes become part of a name.
WORDS = st.text(st.characters(categories=["L", "N", "Zs"]), max_size=60)
ONE_MAILBOX = st.builds(_as_mailbox, WORDS, st.sampled_from(["ann", "o'x+y"]))
FILE_NAMES = (
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)
    | st.text("a b.;\"'*%ä漢", min_size=1, max_size=60)
).map(lambda name: name.replace("/", "-").replace("\\", "-").replace("=?", "").strip(" .") or "a")
FILES = st.lists(
    st.builds(
        a_file,
        FILE_NAMES.map(str.strip).filter(bool),
        st.binary(max_size=200),
        content_type=st.sampled_from(["image/png", "application/octet-stream"]),
        content_id=st.none() | st.uuids().map(str),
    ),
    max_size=3,
)
CALENDARS = st.builds(
    lambda method, text: CalendarObject(
        method=method,
        content=f"BEGIN:VCALENDAR\r\nMETHOD:{method}\r\nX-A:{text}\r\nEND:VCALENDAR\r\n",
    ),
    st.sampled_from(get_args(CalendarMethod)),
    st.text(st.characters(exclude_categories=["Cc", "Cs"])) | st.text("x ä", min_size=990),
)
ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


def composed(command: SendEmail, content: MailContent | None = None) -> OutgoingMail:
    """Compose a mail as the sender does."""
    content = content or MailContent(text=command.text, html=command.html)
    return compose(command, content, HEAD, command.created_at or NOW)


def parsed(mail: OutgoingMail) -> EmailMessage:
    """Parse a mail with the standard library."""
    return message_from_string(mail.content.decode(), policy=policy.default)


def mailboxes(mail: OutgoingMail, name: str) -> tuple[tuple[str, str], ...]:
    """Return the names and addresses of a header.

    With the older parser: the newer one, before Python 3.13, reads the fold between two encoded
    words of a name as a space, against RFC 2047 6.2.
    """
    header = message_from_string(mail.content.decode(), policy=policy.compat32)[name]
    found = getaddresses([header] if header else [])
    return tuple((str(make_header(decode_header(name))), address) for name, address in found)


def as_pairs(*values: str) -> tuple[tuple[str, str], ...]:
    """Return the expected result of `mailboxes`."""
    return tuple(map(address.split_mailbox, values))


def as_lines(text: str) -> str:
    """Return a text as it arrives: with LF for each line end, and one at the end."""
    return LINE_BREAK.sub("\n", text).removesuffix("\n") + "\n"


def body(message: EmailMessage, subtype: str) -> str | None:
    """Return the text of one form."""
    part = message.get_body((subtype,))
    if part is None:
        return None
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


@given(subject=HEADER_TEXT)
def test_subject(subject: str) -> None:
    """Any valid subject arrives unchanged."""
    message = parsed(composed(a_command(subject=subject)))

    assert message["Subject"] == subject


@given(from_=MAILBOXES, to=st.lists(MAILBOXES, min_size=1, max_size=4), cc=SEVERAL, reply=SEVERAL)
def test_mailboxes(from_: str, to: list[str], cc: tuple[str, ...], reply: tuple[str, ...]) -> None:
    """Any names and addresses arrive unchanged, and none is added."""
    command = a_command(*to, from_=from_, cc=cc, reply_to=reply)

    mail = composed(command)

    assert mailboxes(mail, "From") == as_pairs(from_)
    assert mailboxes(mail, "To") == as_pairs(*to)
    assert mailboxes(mail, "Cc") == as_pairs(*cc)
    assert mailboxes(mail, "Reply-To") == as_pairs(*reply)


@given(text=st.none() | BODIES, html=BODIES)
def test_bodies(text: str | None, html: str) -> None:
    """Text and HTML arrive unchanged, except for the kind of line ends and the last one."""
    message = parsed(composed(a_command(), MailContent(text=text, html=html)))

    assert body(message, "plain") == (None if text is None else as_lines(text))
    assert body(message, "html") == as_lines(html)


@settings(max_examples=50, deadline=None)  # the library takes its time
@given(
    from_=ONE_MAILBOX,
    to=ONE_MAILBOX,
    cc=st.lists(ONE_MAILBOX, max_size=1),
    subject=HEADER_TEXT,
    text=BODIES,
    html=st.none() | BODIES,
    attachments=FILES,
    calendar=st.none() | CALENDARS,
)
def test_as_the_library_does(to: str, **fields: Any) -> None:  # noqa: ANN401 -- fields of the contract
    """Our mail and the standard library's parse to the same header, tree and octets."""
    command = a_command(to, **fields)

    ours, theirs = composed(command).content, library.built(command, "id.our.example", NOW)

    assert library.fields(ours) == library.fields(theirs)
    assert library.parts(ours) == library.parts(theirs)


@given(
    subject=HEADER_TEXT,
    to=MAILBOXES,
    text=BODIES,
    html=BODIES,
    attachments=FILES,
    calendar=st.none() | CALENDARS,
)
def test_on_the_wire(to: str, **fields: Any) -> None:  # noqa: ANN401 -- fields of the contract
    """A mail is 7-bit clean, has no bare CR or LF and no line over 998 octets, and ends in CRLF."""
    content = composed(a_command(to, **fields)).content

    assert content.isascii()
    assert b"\x00" not in content
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", content) is None
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert content.endswith(b"\r\n")


@given(subject=HEADER_TEXT, to=st.lists(MAILBOXES, min_size=1, max_size=20), cc=SEVERAL)
def test_encoded_lines(subject: str, to: list[str], cc: tuple[str, ...]) -> None:
    """No line with an encoded word has over 76 characters (RFC 2047 2)."""
    head, _, _ = composed(a_command(*to, subject=subject, cc=cc)).content.partition(b"\r\n\r\n")

    assert all(len(line) <= 76 for line in head.split(b"\r\n") if b"=?utf-8?" in line)


def test_headers() -> None:
    """A mail has the headers that RFC 5322 requires, each once, and no Bcc."""
    command = a_command(
        "anna@x.example",
        cc="Ben <ben@x.example>",
        bcc="eve@x.example",
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )

    mail = composed(command)

    assert parsed(mail).items() == [
        ("Date", "Fri, 02 Jan 2026 03:04:05 +0000"),
        ("From", "Post <post@our.example>"),
        ("To", "anna@x.example"),
        ("Cc", "Ben <ben@x.example>"),
        ("Subject", "Hello"),
        ("Message-ID", "<mail-1@id.our.example>"),
        ("MIME-Version", "1.0"),
        ("Content-Type", 'text/plain; charset="utf-8"'),
        ("Content-Transfer-Encoding", "7bit"),
    ]
    assert mail.sender == "post@our.example"
    assert mail.recipients == ("anna@x.example", "ben@x.example", "eve@x.example")
    assert b"eve@" not in mail.content


def test_same_again() -> None:
    """The next attempt, for fewer recipients, has the same octets, so the same Message-ID."""
    command = a_command("anna@x.example", "ben@x.example", html="<p>ä", created_at=NOW)
    again = command.model_copy(update={"pending": ("ben@x.example",), "attempt": 2})

    assert composed(again).content == composed(command).content
    assert composed(again).recipients == ("ben@x.example",)


def test_automatic() -> None:
    """A mail with a code is marked as auto-generated (RFC 3834); other mail is not."""
    assert parsed(composed(a_command(category=Category.OTP)))["Auto-Submitted"] == "auto-generated"
    assert parsed(composed(a_command()))["Auto-Submitted"] is None


@pytest.mark.parametrize(
    ("id_", "left"), [("a.b", "a.b"), ("a..b", "a=2E.b"), ("a.", "a=2E"), ("a...", "a=2E=2E=2E")]
)
def test_message_id(id_: str, left: str) -> None:
    """An id that is no dot-atom still leads to a unique Message-ID that is one."""
    assert parsed(composed(a_command(id=id_)))["Message-ID"] == f"<{left}@id.our.example>"


def test_smtputf8() -> None:
    """Only a non-ASCII local part needs SMTPUTF8, in the header or in the envelope."""
    assert not composed(a_command("Jörg <joerg@bücher.example>")).needs_smtputf8
    assert composed(a_command("jörg@x.example")).needs_smtputf8
    assert composed(a_command(bcc="jörg@x.example")).needs_smtputf8

    assert mailboxes(composed(a_command("Jörg <jörg@bücher.example>")), "To") == (
        ("Jörg", "jörg@xn--bcher-kva.example"),
    )


@pytest.mark.parametrize(
    "bad", ["a\r\nBcc: eve@x.example", "a\nb", "=?utf-8?q?=0ABcc:_eve?=", "\0"]
)
def test_injection_is_refused(bad: str) -> None:
    """No subject, name or address can put a line end into the header."""
    with pytest.raises(ValidationError):
        a_command(subject=bad)
    with pytest.raises(ValidationError):
        a_command(f"{bad} <anna@x.example>")
    with pytest.raises(ValidationError):
        a_command(from_=f"{bad}@x.example")


@given(subject=ANY_TEXT)
def test_injection_without_contract(subject: str) -> None:
    """Even a subject that no contract has checked puts no line end into the header."""
    command = a_command().model_copy(update={"subject": subject})

    headers = [name for name, _ in parsed(composed(command)).items()]

    assert headers == [name for name, _ in parsed(composed(a_command())).items()]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Hello\n", "7bit"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("Viele Grüße von hier\n", "quoted-printable"),
        ("Привет\n", "base64"),
    ],
)
def test_encoding(text: str, encoding: str) -> None:
    """The transfer encoding is the most readable, then the shortest, that is 7-bit clean."""
    assert parsed(composed(a_command(text=text)))["Content-Transfer-Encoding"] == encoding


@given(
    st.datetimes(timezones=ZONES | st.just(UTC)).filter(lambda date: EPOCH <= date < END_OF_TIME)
)
def test_any_date(date: datetime) -> None:
    """A date has the form of RFC 5322."""
    lines = composed(a_command(created_at=date)).content.split(b"\r\n")

    assert lines[0].decode() == f"Date: {format_datetime(date)}"


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        (MailProvider.POSTMARK, "X-PM-Metadata-postrider: <m-1@id.our.example>"),
        (
            MailProvider.SENDGRID,
            'X-SMTPAPI: {"unique_args": {"postrider": "<m-1@id.our.example>"}}',
        ),
        (MailProvider.RESEND, "X-Postrider-Id: <m-1@id.our.example>"),
    ],
)
def test_a_provider_gets_the_message_id_as_it_returns_it(provider: MailProvider, line: str) -> None:
    """The webhooks of these providers name a mail by an argument, and no other relay gets it."""
    plain, content = a_command(id="m-1"), MailContent(text="Hello")
    own = a_command(id="m-1", headers={line.partition(":")[0].upper(): "mine"})

    def lines(command: SendEmail, defaults: MailDefaults) -> list[str]:
        composed = compose(command, content, defaults, NOW).content
        return composed.partition(b"\r\n\r\n")[0].decode().split("\r\n")

    behind = replace(HEAD, provider=provider)
    assert {*lines(plain, behind)} - {*lines(plain, HEAD)} == {line}
    assert lines(own, behind) == lines(own, HEAD)


def test_postmark_gets_no_argument_that_it_refuses() -> None:
    """Postmark refuses a mail with a value of more than 80 characters."""
    behind = replace(HEAD, provider=MailProvider.POSTMARK)

    composed = compose(a_command(id="m" * 100), MailContent(text="Hello"), behind, NOW)

    assert b"X-PM-Metadata" not in composed.content
