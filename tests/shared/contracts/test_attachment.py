"""Attachments: their names, types and sizes."""

import base64
import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.contracts.attachment import (
    MAX_ATTACHED_BYTES,
    MAX_ATTACHMENTS,
    MAX_CALENDAR_CHARS,
    Attachment,
    Attachments,
    CalendarMethod,
    CalendarObject,
)

FILES: TypeAdapter[tuple[Attachment, ...]] = TypeAdapter(Attachments)


def a_file(content: bytes = b"Hello", **fields: str) -> dict[str, str]:
    """Return an attachment as it is on the wire."""
    return {"filename": "a.txt", "content": base64.b64encode(content).decode()} | fields


def refusal(**fields: str) -> str:
    """Return the mistakes in an attachment."""
    with pytest.raises(ValidationError) as caught:
        FILES.validate_python([a_file() | fields])
    return str(caught.value)


@given(content=st.binary(max_size=200))
def test_any_octets(content: bytes) -> None:
    """The size of an attachment is known without decoding it."""
    (file,) = FILES.validate_python([a_file(content)])

    assert base64.b64decode(file.content) == content
    assert file.size == len(content)


@pytest.mark.parametrize(
    "content", ["a", "ab", "abc", "a===", "ab=c", "abc\n", "ab c", "ab-_", "äbcd", "abcd=", "===="]
)
def test_wrong_base64(content: str) -> None:
    """Base64 with padding and nothing else."""
    assert "must be base64" in refusal(content=content)


@pytest.mark.parametrize(
    "name", ["a", "Größe.pdf", "報告.pdf", "a b;c=d'e\"f.txt", "." + "x" * 254]
)
def test_names(name: str) -> None:
    """An attachment may have any name that a file system takes."""
    (file,) = FILES.validate_python([a_file(filename=name)])

    assert file.filename == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "..\\a", " a", "a ", "a\r\nBcc: x", "a\0", "=?utf-8?q?a?=", "ä" * 128],
)
def test_no_names(name: str) -> None:
    """A path, a line end, an encoded word or a name that is too long is refused."""
    assert "filename" in refusal(filename=name)


@pytest.mark.parametrize(
    "given_type",
    [
        "application/pdf",
        "text/csv; charset=utf-8",
        'text/csv; charset="utf-8"',
        'text/plain; charset="utf-8";format="flowed"; delsp=yes',
        'application/pdf; name="the bill; (1).pdf"',
        "text/calendar;method=REQUEST; charset=utf-8",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ],
)
def test_types(given_type: str) -> None:
    """A media type may have parameters."""
    (file,) = FILES.validate_python([a_file(content_type=given_type)])

    assert file.content_type == given_type


@pytest.mark.parametrize(
    "given_type",
    ["", "pdf", "a/b/c", "text/plain\r\nX: y", "text/plain; name=ä", "a/b; c", "a/" + "b" * 200],
)
def test_no_types(given_type: str) -> None:
    """Nothing but a media type can be written into its header."""
    assert "content_type" in refusal(content_type=given_type)


@pytest.mark.parametrize("composite", ["message/rfc822", "Message/Delivery-Status", "multipart/x"])
def test_composite_types(composite: str) -> None:
    """A mail inside a mail must not be in base64 (RFC 2046 5.2.1), so it goes as octets."""
    assert "use application/octet-stream" in refusal(content_type=composite)


@pytest.mark.parametrize("content_id", ["", "a b", "<logo>", "logo@", "a\n", "é", "a%40b"])
def test_no_content_ids(content_id: str) -> None:
    """An id that would have to be escaped in the HTML's `cid:` is refused."""
    assert "content_id" in refusal(content_id=content_id)


def test_content_ids_differ() -> None:
    """Two attachments of a mail cannot have one content_id."""
    with pytest.raises(ValidationError, match="content_id of its own"):
        FILES.validate_python([a_file(content_id="logo"), a_file(content_id="logo")])

    different = [a_file(content_id="a@b"), a_file(content_id="a"), a_file()]
    assert len(FILES.validate_python(different)) == 3


def test_together() -> None:
    """The limit is for all files together, as octets and not as base64, and is reached at once."""
    half = MAX_ATTACHED_BYTES // 2
    files = [a_file(bytes(half)), a_file(bytes(MAX_ATTACHED_BYTES - half))]
    begun = time.thread_time()

    assert sum(file.size for file in FILES.validate_python(files)) == MAX_ATTACHED_BYTES

    assert time.thread_time() - begun < 1
    with pytest.raises(ValidationError, match="at most 7 MiB together"):
        FILES.validate_python([*files, a_file(b"x")])
    with pytest.raises(ValidationError, match="at most 9786712 characters"):
        FILES.validate_python([a_file(bytes(MAX_ATTACHED_BYTES + 3))])


def test_many() -> None:
    """Their number is limited."""
    with pytest.raises(ValidationError, match="at most 50 items"):
        FILES.validate_python([a_file()] * (MAX_ATTACHMENTS + 1))


def test_octets_are_not_shown() -> None:
    """An attachment in a log or a traceback shows its name, not its content."""
    (file,) = FILES.validate_python([a_file(b"secret")])

    assert "c2VjcmV0" not in repr(file)


INVITATION = """\
BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//postrider.example//EN\r
METHOD:REQUEST\r
BEGIN:VEVENT\r
UID:4711@postrider.example\r
SUMMARY:Grüße\r
END:VEVENT\r
END:VCALENDAR\r
"""


def a_calendar(content: str, method: str = "REQUEST") -> CalendarObject:
    """Return an iCalendar object as it is read."""
    return CalendarObject.model_validate({"method": method, "content": content})


@pytest.mark.parametrize("method", get_args(CalendarMethod))
def test_each_method_of_the_standard_is_taken(method: str) -> None:
    """An object may have any method of RFC 5546, and is kept as it is."""
    content = INVITATION.replace("REQUEST", method)

    assert a_calendar(content, method).content == content


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("METHOD:REQUEST\r", "method:request\r"),
        ("METHOD:REQUEST\r", "METHOD;X-A=1:REQUEST\r"),
        ("METHOD:REQUEST\r", "METH\r\n OD:REQ\r\n\tUEST\r"),
        ("\r\n", "\n"),
        ("BEGIN:VCALENDAR", "\r\nbegin:vcalendar"),
        ("Grüße", "a\u2028METHOD:CANCEL"),
        ("Grüße", "a\r\n METHOD:CANCEL"),
    ],
    ids=["lower case", "parameter", "folded", "line feeds", "outer", "separator", "inside"],
)
def test_the_method_is_found_as_a_mail_program_finds_it(line: str, other: str) -> None:
    """Case, folds and line ends of any kind change nothing."""
    assert a_calendar(INVITATION.replace(line, other)).method == "REQUEST"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (INVITATION.replace("REQUEST", "CANCEL"), "must have METHOD:REQUEST"),
        (INVITATION.replace("METHOD:REQUEST\r\n", ""), "must have METHOD:REQUEST"),
        (INVITATION.replace("UID", "METHOD:CANCEL\r\nUID"), "must have METHOD:REQUEST"),
        (INVITATION.replace("UID", "METHOD:REQUEST\r\nUID"), "must have METHOD:REQUEST"),
        (INVITATION.replace("END:VCALENDAR", ""), "must be one iCalendar object"),
        (INVITATION.replace("BEGIN:VCALENDAR", "BEGIN:VEVENT"), "must be one iCalendar object"),
        (INVITATION + INVITATION, "must be one iCalendar object"),
        ("", "must be one iCalendar object"),
        (INVITATION.replace("4711", "\0"), "must have no control characters"),
        (INVITATION.replace("4711", "\x1b"), "must have no control characters"),
        (INVITATION.replace("4711", "x" * MAX_CALENDAR_CHARS), "at most 262144 characters"),
    ],
)
def test_an_object_of_another_method_or_form_is_refused(content: str, reason: str) -> None:
    """An object that no mail program shows as an invitation is refused, without its content."""
    with pytest.raises(ValidationError, match=reason) as caught:
        a_calendar(content)
    assert "4711" not in str(caught.value)
