"""Tests of whole mails: their form, their limits, and what is read out of their headers."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import SendEmail, encode, mime
from shared.errors import Undecodable
from tests.shared.messages import send_email

HEAD = b"From: Ann <ann@shop.example>\r\nMessage-ID: <1@shop.example>\r\nSubject: Hi\r\n"
MAIL = HEAD + b"\r\n.\r\nHello\r\n"
NESTED = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"


def command(mail: bytes = MAIL, /, **changes: object) -> bytes:
    """Return the JSON of a SendEmail of a whole mail."""
    fields = {
        "id": "mail-1",
        "to": ["bob@x.example"],
        "from": "Ann <ann@shop.example>",
        "subject": "Hi",
        "mime": base64.b64encode(mail).decode(),
        "message_id": "<1@shop.example>",
        "envelope_from": "",
    }
    return json.dumps(fields | changes).encode()


def test_bytes_of_a_whole_mail_are_frozen() -> None:
    """Other programs read these fields: a whole mail keeps its form on the wire."""
    message = send_email(command())

    assert json.loads(encode(message)) == {
        **json.loads(command()),
        "category": "transactional",
        "attempt": 1,
        "cc": [],
        "bcc": [],
        "attachments": [],
        "headers": {},
        "tags": [],
        "metadata": {},
    }
    assert send_email(encode(message)) == message
    assert mime.decode(message.mime or "") == MAIL
    assert MAIL.hex() not in repr(message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("cc", ["a@b.example"]), ("bcc", ["a@b.example"]), ("reply_to", "a@b.example")),
        *(("text", "t"), ("html", "t"), ("sealed", "t"), ("headers", {"X-A": "b"})),
        ("attachments", [{"filename": "a", "content": ""}]),
    ],
)
def test_a_whole_mail_is_all_content(field: str, value: object) -> None:
    """A whole mail has no other content beside it."""
    with pytest.raises(Undecodable, match=f"must have no {field} beside `mime`"):
        send_email(command(**{field: value}))


@pytest.mark.parametrize("field", ["message_id", "envelope_from"])
def test_fields_of_a_whole_mail_alone(field: str) -> None:
    """A mail that is composed here has a Message-ID and an envelope of ours."""
    value = {"message_id": "<1@x.example>", "envelope_from": "a@b.example"}[field]
    fields = {"id": "1", "to": "a@b.example", "subject": "s", "text": "t", field: value}

    with pytest.raises(Undecodable, match="without `mime`"):
        send_email(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"from": None}, "`from` and `message_id`"),
        ({"message_id": None}, "`from` and `message_id`"),
        ({"message_id": "<2@shop.example>"}, "the `message_id` that"),
        ({"from": "eve@shop.example"}, "the address in `from`"),
        ({"message_id": "1@shop.example"}, "in angle brackets"),
        ({"envelope_from": "ann"}, "envelope_from"),
    ],
)
def test_claims(changes: dict[str, object], reason: str) -> None:
    """The fields beside a whole mail say what it says itself."""
    with pytest.raises(Undecodable, match=reason):
        send_email(command(**changes))


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        (HEAD + b"\r\na\x00b\r\n", "no NUL"),
        (HEAD + b"\r\na\nb\r\n", "no bare CR and no bare LF"),
        (HEAD + b"\r\na\rb\r\n", "no bare CR and no bare LF"),
        (HEAD + b"\r\na\n.\nMAIL FROM:<eve@x.example>\r\n", "no bare CR and no bare LF"),
        (HEAD + b"\r\na", "end with CRLF"),
        (b"", "header fields"),
        (HEAD + b"\r\n" + b"x" * 999 + b"\r\n", "at most 998 bytes"),
        (b"Bcc: eve@x.example\r\n" + MAIL, "no Bcc"),
        (b"bCC : eve@x.example\r\n" + MAIL, "no Bcc"),
        (b"Resent-Bcc: eve@x.example\r\n" + MAIL, "no Bcc"),
        (b"Message-ID: <2@shop.example>\r\n" + MAIL, "Message-Id only once"),
        (b"From: <eve@shop.example>\r\n" + MAIL, "From only once"),
        (b"From me\r\n" + MAIL, "header fields"),
        (b" folded\r\n" + MAIL, "header fields"),
        (b"\r\n" + MAIL, "header fields"),
        (b"X: \xff\r\n" + MAIL, "ASCII or UTF-8"),
        (b"X: y\r\n" * 1001 + MAIL, "at most 1000 header fields"),
        (b"X: " + b"y\r\n " * 90_000 + MAIL, "header of at most"),
        (MAIL + b"\r\n" * (mime.MAX_MIME_BYTES // 2), "mime: must have at most|at most 139"),
        (MAIL + b"".join(NESTED % (i, i) for i in range(5000)), "multiparts and mails"),
        (MAIL + b"Content-Type: message/rfc822\r\n\r\n" * 5000, "multiparts and mails"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n" + MAIL + b"--b\r\n\r\n" * 1001,
            "at most 1000 parts",
        ),
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_refused(mail: bytes, reason: str) -> None:
    """A mail that a server could misread, or that is beyond a limit, is refused."""
    with pytest.raises(Undecodable, match=reason):
        send_email(command(mail))


@pytest.mark.parametrize(
    "mail",
    [
        HEAD,  # without a body, and without the empty line before it
        HEAD + b"\r\n",
        HEAD + b"\r\n" + b"x" * 998 + b"\r\n",
        HEAD + b"\r\n\xff\xfe\r\n",
        HEAD + b"\r\n" + b"-- \r\n" * 5000,
        "X: Grüße\r\n".encode() + MAIL,
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_taken(mail: bytes) -> None:
    """A mail that a relay can be handed as it is, is taken."""
    assert mime.decode(send_email(command(mail)).mime or "") == mail


@pytest.mark.parametrize(
    ("value", "mailbox"),
    [
        ("ann@shop.example", "ann@shop.example"),
        ("<ann@SHOP.example>", "ann@shop.example"),
        ('"Ann, Shop" <ann@shop.example>', '"Ann, Shop" <ann@shop.example>'),
        ("=?utf-8?q?J=C3=BCrgen?= <j@x.example>", "Jürgen <j@x.example>"),
        ('"=?utf-8?q?J=C3=BCrgen?=" <j@x.example>', "Jürgen <j@x.example>"),
        ("Jürgen <j@x.example>", "Jürgen <j@x.example>"),
        ("ann@bücher.example (Ann)", "ann@xn--bcher-kva.example"),
        (f"{'n' * 300} <ann@shop.example>", "ann@shop.example"),
    ],
)
def test_mailbox(value: str, mailbox: str) -> None:
    """The mailbox of From is read with its name."""
    assert mime.read_mailbox(value) == mailbox


@pytest.mark.parametrize(
    "value",
    [
        *("", "Ann", "<>", "ann@shop.example, bob@shop.example", "Group: ann@shop.example;" * 2),
        *("ann@shop.example <eve@x.example>", "ann@shop.example\t<eve@x.example>"),
        *("<ann@shop.example> <eve@x.example>", "(" * 1999, "a" * 1999, "<" * 1999, "x" * 5000),
    ],
)
def test_no_mailbox(value: str) -> None:
    """A value that two programs could read as two addresses is refused, and costs little."""
    with pytest.raises(ValueError, match="must"):
        mime.read_mailbox(value)


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("Hello", "Hello"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?= an =?iso-8859-1?b?/A==?=", "Grüße an ü"),
        ("=?utf-8?q?a=0D=0ABcc:_eve?=", "a  Bcc: eve"),
        ("=?x-unknown?q?a?=", " ?x-unknown?q?a?=".strip()),
        ("=?utf-8?q?=3D=3Fx?=", "?x"),
        ("é" * 2000, "é" * 900),
        ("", ""),
    ],
)
def test_subject(value: str, subject: str) -> None:
    """The subject of the books has no encoded word and no line end."""
    assert mime.read_subject(value) == subject


@given(st.text(), st.text(alphabet="=?utf-8QqBb_ é\t\r\n"))
def test_any_subject(text: str, odd: str) -> None:
    """A command can have any subject that is read out of a mail."""
    for value in (text, odd):
        SendEmail(id="1", to=("a@b.example",), subject=mime.read_subject(value), text="")


@given(st.binary(max_size=200), st.text(max_size=100))
def test_any_octets(octets: bytes, value: str) -> None:
    """Any octets raise ValueError at most."""
    for mail in (octets, HEAD + octets + b"\r\n", octets + MAIL):
        with suppress(ValueError):
            mime.read_header(mime.split(mime.check_octets(mail))[0])
    with suppress(ValueError):
        mime.read_mailbox(value)


@given(
    st.lists(
        st.sampled_from([b"A: b\r\n", b"C:\r\n d\r\n", b"Bcc: e\r\n", b"F : g\r\n"]), min_size=1
    )
)
def test_join(lines: list[bytes]) -> None:
    """The fields of a header make up the header."""
    assert mime.join(mime.read_header(b"".join(lines))) == b"".join(lines)
