"""The parsing of mails; names, types and images of attachments; the hostile ones too."""

import dataclasses
import email.message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.mail import (
    FILENAME_CHARS,
    INLINED_OCTETS,
    MAX_BOUNDARY_LINES,
    MailAttachment,
    filename,
    headers,
    read,
    response_headers,
    summary,
    with_images,
)


def test_parts() -> None:
    """Text, HTML and attachments of an ordinary mail are separate."""
    mail = email.message.EmailMessage()
    mail["Subject"] = "Grüße"
    mail.set_content("Text with ü\n")
    mail.add_alternative("<p>HTML</p>\n", subtype="html")
    mail.add_attachment(b"1234", "application", "pdf", filename="Zürich.pdf")
    raw = mail.as_bytes()

    content = read(raw)

    assert headers(raw)["Subject"] == "Grüße"
    assert content.text == "Text with ü\n"
    assert content.html == "<p>HTML</p>\n"
    assert [(a.filename, a.size) for a in content.attachments] == [("Zürich.pdf", 4)]


def test_forwarded() -> None:
    """A mail within a mail is one attachment; its text is not that of the outer mail."""
    inner, outer = email.message.EmailMessage(), email.message.EmailMessage()
    inner.set_content("inner")
    outer.add_attachment(inner)

    content = read(outer.as_bytes())

    assert content.text is None
    assert [(a.content_type, a.filename) for a in content.attachments] == [
        ("message/rfc822", "unnamed.eml")
    ]


def test_summary() -> None:
    """A summary has the subject, the words without tags, and the number of attachments."""
    mail = email.message.EmailMessage()
    mail["Subject"] = "Grüße"
    mail.set_content("<style>p { color: red }</style><p>Your\n Code&amp;Key</p>", subtype="html")
    mail.add_attachment(b"1234", "application", "pdf")

    found = summary(mail.as_bytes())

    assert (found.subject, found.attachments) == ("Grüße", 1)
    assert found.searched.strip() == "your code&key"


def test_too_many_parts() -> None:
    """A mail with so many parts that parsing takes too long is shown as its source."""
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * MAX_BOUNDARY_LINES

    assert (read(raw).text or "").startswith("Content-Type")


def test_repeated_header() -> None:
    """Headers of one name, however spelled, become one with a value a line."""
    assert headers(b"Received: one\r\nreceived: two\r\n\r\n") == {"Received": "one\ntwo"}


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"Subject: =?utf-8?q?a_b?=\r\n =?utf-8?q?c?=\r\n\r\n", "a bc"),
        (b"Subject: =?utf-8?b?w7w=?= and more\r\n\r\n", "\xfc and more"),
        (b"Subject: \xfc\xff\r\n\r\n", "\ufffd\ufffd"),
        ("Subject: ü\r\n\r\n".encode(), "ü"),
        (b"Subject: =?no-such?q?a?=\r\n\r\n", "a"),
        (b"Subject: =?utf-8?b?abc?=\r\n\r\n", "i\ufffd"),
        (b"Subject:\r\n\r\n", ""),
        (b"Subject: =?hex?q?zz?=\r\n\r\n", "zz"),
    ],
)
def test_subject(raw: bytes, subject: str) -> None:
    """Encoded words are decoded, and undecodable ones are shown in some way."""
    assert headers(raw)["Subject"] == subject


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain; charset=no-such",
        "text/plain; charset=unicode_escape",
        "text/plain; charset=hex",
        "text/plain; charset=utf-7",
        "text/plain; charset=idna",
        'text/plain; charset="a\x00b"',
        "text/plain; charset*=x'y'%ff",
        "multipart/mixed; boundary=",
        "multipart/mixed",
        "/",
    ],
)
@pytest.mark.parametrize("encoding", ["8bit", "base64", "uuencode", "no-such"])
def test_hostile(kind: str, encoding: str) -> None:
    """No charset, type or encoding makes parsing fail, and the result is UTF-8."""
    raw = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    content = read(raw.encode() + b"+2AA- \\d \xff\xfe\x00 Zg\r\n")

    (content.text or "").encode()


def test_deep() -> None:
    """A mail of a thousand nested parts is shown as its source at worst."""
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
        for n in range(1000)
    )

    assert (read(nested + b"\r\nend").text or "").endswith("end")


@given(st.binary(max_size=300))
def test_any_octets(raw: bytes) -> None:
    """Headers and bodies of any octets can be parsed and encoded."""
    content = read(raw)

    for text in (*headers(raw), *headers(raw).values(), content.text, summary(raw).searched):
        (text or "").encode()


IMAGE = MailAttachment("a.png", "image/png", 3, "a&b@x", None, b"abc")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\r\nSet-Cookie: x\u202e.txt", "aSet-Cookie_ x.txt"),
        ("x" * 300 + ".pdf", "x" * 96 + ".pdf"),
        ("x" * 300, "x" * 100),
        ("...", "unnamed"),
    ],
)
def test_filename(name: str, plain: str) -> None:
    """A name has no folder, line end or change of direction, and keeps its suffix when cut."""
    assert filename(dataclasses.replace(IMAGE, filename=name)) == plain


@given(st.text(max_size=300), st.text(max_size=60), st.none() | st.text(max_size=60))
def test_headers(name: str, kind: str, charset: str | None) -> None:
    """No name, type or charset can end its header, and no served type can run."""
    hostile = MailAttachment(name, kind, 0, None, charset, b"")
    found = response_headers(hostile)

    assert all(text.isascii() and text.isprintable() for text in found.values())
    assert found["Content-Type"] == "application/octet-stream"
    assert len(filename(hostile)) in range(1, FILENAME_CHARS + 1)
    plain = response_headers(dataclasses.replace(hostile, content_type="text/plain"))
    assert plain["Content-Type"].startswith("text/plain; charset=")
    assert all(text.isascii() and text.isprintable() for text in plain.values())


@pytest.mark.parametrize(
    "reference",
    ["src=cid:a%26b@x", 'src="cid:a&amp;b@x"', "src='CID:a&amp;b@x'", "style='a:url(cid:a%26b@x)'"],
)
def test_reference(reference: str) -> None:
    """An image is found in any spelling of its name (RFC 2392)."""
    assert "data:image/png;base64,YWJj" in with_images(f"<p {reference}>", [IMAGE])


def test_left_alone() -> None:
    """Text, unknown names and types other than images stay as they are."""
    text = "<p>see cid:a&amp;b@x</p><img src=cid:b@x>"
    page = dataclasses.replace(IMAGE, content_type="text/html")

    assert with_images(text, [IMAGE]) == text
    assert with_images("<img src=cid:a%26b@x>", [page]) == "<img src=cid:a%26b@x>"


def test_amplification() -> None:
    """An image that the HTML names a thousand times is not sent a thousand times."""
    large = dataclasses.replace(IMAGE, size=INLINED_OCTETS // 3)

    assert with_images("<img src=cid:a%26b@x>" * 1000, [large]).count("data:") == 3
