"""Tests of the structure of multiparts; test_compose checks their content."""

import quopri
import re
import time
from email import message_from_string, policy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.sender.mail import mime
from services.sender.mail.mime import MailContent
from shared.contracts.attachment import MAX_ATTACHED_BYTES, Attachment, CalendarObject
from tests.sender import library
from tests.sender.commands import a_file

TEXT, HTML, BOTH = (
    MailContent(text="a"),
    MailContent(html="<p>a"),
    MailContent(text="a", html="<p>a"),
)
FILE, IMAGE = a_file(), a_file("logo.png", content_type="image/png", content_id="logo")

INVITATION = CalendarObject(
    method="REQUEST",
    content="BEGIN:VCALENDAR\nMETHOD:REQUEST\nX-A:ä\nEND:VCALENDAR",
)


def shape(part: library.Part) -> object:
    """Return the type of a part, or the type of a multipart with a list of its parts' types."""
    kind, *_, below = part
    return (kind, [shape(each) for each in below]) if isinstance(below, list) else kind


@pytest.mark.parametrize(
    ("content", "files", "expected"),
    [
        (TEXT, [], "text/plain"),
        (HTML, [], "text/html"),
        (BOTH, [], ("multipart/alternative", ["text/plain", "text/html"])),
        (TEXT, [FILE], ("multipart/mixed", ["text/plain", "application/octet-stream"])),
        (TEXT, [IMAGE], ("multipart/mixed", ["text/plain", "image/png"])),
        (HTML, [IMAGE], ("multipart/related", ["text/html", "image/png"])),
        (
            BOTH,
            [IMAGE, FILE, IMAGE],
            (
                "multipart/mixed",
                [
                    (
                        "multipart/alternative",
                        [
                            "text/plain",
                            ("multipart/related", ["text/html", "image/png", "image/png"]),
                        ],
                    ),
                    "application/octet-stream",
                ],
            ),
        ),
    ],
)
def test_levels(content: MailContent, files: list[Attachment], expected: object) -> None:
    """There are as few levels as possible; images that the HTML shows are related to it."""
    assert shape(library.parts(mime.entity(content, files).encode())) == expected


def test_invitation() -> None:
    """An invitation is the last form of the text, with its method and charset, beside images."""
    message = message_from_string(
        mime.entity(BOTH, [IMAGE, FILE], INVITATION), policy=policy.default
    )
    forms, file = message.iter_parts()
    *_, calendar = forms.iter_parts()

    assert shape(library.parts(message.as_bytes())) == (
        "multipart/mixed",
        [
            (
                "multipart/alternative",
                [
                    "text/plain",
                    ("multipart/related", ["text/html", "image/png"]),
                    "text/calendar; method=REQUEST",
                ],
            ),
            "application/octet-stream",
        ],
    )
    assert calendar["Content-Type"] == 'text/calendar; charset="utf-8"; method="REQUEST"'
    assert calendar["Content-Disposition"] is None
    assert file.get_content() == b"Hello"
    lines = calendar.get_content().splitlines()
    assert lines == ["BEGIN:VCALENDAR", "METHOD:REQUEST", "X-A:ä", "END:VCALENDAR"]


def test_file() -> None:
    """A file has its type, its name and its Content-ID."""
    message = message_from_string(mime.entity(HTML, [IMAGE]), policy=policy.default)
    _, image = message.iter_parts()

    assert image.items() == [
        ("Content-Type", "image/png"),
        ("Content-Transfer-Encoding", "base64"),
        ("Content-Disposition", 'inline; filename="logo.png"'),
        ("Content-ID", "<logo>"),
    ]
    assert message.get_param("type") == "text/html"  # RFC 2387 3.1
    assert image.get_content() == b"Hello"


def test_boundaries() -> None:
    """A text that quotes the boundaries of our own mail is not cut at them."""
    quoted = mime.entity(BOTH, [IMAGE, FILE])
    entity = mime.entity(MailContent(text=quoted, html=quoted), [IMAGE, FILE])

    boundaries = re.findall('boundary="(.*?)"', quoted)
    parsed = message_from_string(entity, policy=policy.default)
    text = parsed.get_body(("plain",))
    assert len(set(boundaries)) == 3
    assert not any(a.startswith(b) for a in boundaries for b in boundaries if a != b)
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == quoted.replace("\r\n", "\n")


# Around the last column of a line, with what is written as three octets there.
NEAR_THE_EDGE = st.builds(
    lambda many, end: "x" * many + end, st.integers(66, 80), st.text(" \tx=.\ré", max_size=12)
)
QUOTED = "\né" + "\nMostly ASCII, so that quoted-printable is the shortest." * 40


@given(lines=st.lists(NEAR_THE_EDGE | st.text(max_size=100), max_size=5))
@example(["x" * 74 + " "])
@example(["x" * 75 + " "])
@example(["x" * 75 + "\t", "é" * 40 + " "])
def test_quoted_printable(lines: list[str]) -> None:
    """No quoted-printable line has over 76 characters or a blank at its end (RFC 2045 6.7)."""
    text = "\n".join(lines).replace("\0", "") + QUOTED
    entity = mime.entity(MailContent(text=text), [])
    head, _, body = entity.partition("\r\n\r\n")
    encoded = body.split("\r\n")

    assert head.endswith("quoted-printable")
    assert max(map(len, encoded)) <= 76
    assert not any(line.endswith((" ", "\t")) for line in encoded)
    sent = re.sub("\r\n|\r|\n", "\r\n", text) + "\r\n"
    assert quopri.decodestring(body.encode()).decode() == sent


def test_large() -> None:
    """The largest file is split into lines of 76 columns quickly."""
    largest = a_file(octets=bytes(MAX_ATTACHED_BYTES))
    begun = time.thread_time()

    entity = mime.entity(TEXT, [largest])

    assert time.thread_time() - begun < 0.5
    assert max(map(len, entity.split("\r\n"))) == 76
