"""The attachments of a mail, checked when they come in: file names, media types and base64.

An iCalendar object is an invitation, its answer or its end (RFC 5545, 5546, 6047).
"""

import re
import string
from collections.abc import Sequence
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from shared.contracts import address

MAX_ATTACHMENTS = 50
MIB = 1024 * 1024
# Decoded, of all files of a mail together. As base64 in JSON it is 9.4 MiB, which leaves room for
# text and HTML under the 16 MiB that RabbitMQ 4 takes.
MAX_ATTACHED_BYTES = 7 * MIB
MAX_CONTENT_CHARS = -(-MAX_ATTACHED_BYTES // 3) * 4  # of one file as base64
MAX_NAME_BYTES = 255  # as UTF-8: what file systems take; percent-encoded it still fits one line
MAX_TYPE_CHARS = 200
MAX_CONTENT_ID_CHARS = 201
MAX_CALENDAR_CHARS = 256 * 1024  # a meeting has 2,000; larger files are attachments
CONTENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}(@[A-Za-z0-9][A-Za-z0-9.-]{0,99})?$"

_BASE64 = (string.ascii_letters + string.digits + "+/").encode()
_NAME = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"  # RFC 6838 4.2
# RFC 2045 5.1; a value in quotes has printable ASCII without quotes and backslashes.
_PARAMETER = r"; ?[A-Za-z0-9-]+=(?:[A-Za-z0-9!#$&^_.+-]+|\"[ !#-\[\]-~]*\")"
_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:{_PARAMETER})*")
# These forms as far as JSON Schema can express them.
TYPE_FORM = f"^{_TYPE.pattern}$"
NAME_FORM = r"^[^/\\\u0000-\u001f]+$"
BASE64_FORM = "^[A-Za-z0-9+/]*={0,2}$"

_LINE_END = re.compile(r"\r\n|\r|\n")
_FOLD = re.compile(r"(?:\r\n|\r|\n)[ \t]")  # RFC 5545 3.1
_METHOD = re.compile(r"METHOD(?:;[^:]*)?:(.*)", re.IGNORECASE)  # RFC 5545 3.7.2
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # RFC 5545 3.1 has no CONTROL but HTAB
_BEGIN, _END = "BEGIN:VCALENDAR", "END:VCALENDAR"

# The purpose of an iCalendar object (RFC 5546 1.4); mail programs show buttons by it.
CalendarMethod = Literal[
    "PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"
]


def _check_file_name(text: str) -> str:
    address.check_header_text(text)
    if len(text.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"must have at most {MAX_NAME_BYTES} bytes in UTF-8")
    if text in {".", ".."} or "/" in text or "\\" in text or text != text.strip():
        raise ValueError("must be the name of a file, without a path or spaces at its ends")
    return text


def _check_type(text: str) -> str:
    """Return a media type as it is. Raises ValueError for a composite type.

    A part of a composite type must not be base64 (RFC 2046 5.2.1), and without base64 it may have
    lines that no server takes.
    """
    if not _TYPE.fullmatch(text) or "=?" in text:
        raise ValueError("must be a media type such as application/pdf")
    if text.lower().startswith(("message/", "multipart/")):
        raise ValueError("must not be message/* or multipart/*; use application/octet-stream")
    return text


def check_base64(text: str) -> str:
    """Return a text that is base64 as it is. Raises ValueError."""
    # Decoding takes four times as long, and the mail does not need it: the text is sent as it is.
    digits = text.encode().rstrip(b"=")
    padding = len(text) - len(digits)
    if len(text) % 4 or padding > 2 or digits.translate(None, _BASE64):  # noqa: PLR2004 -- RFC 4648 4
        raise ValueError("must be base64 (RFC 4648 4) with its padding and without line ends")
    return text


class Attachment(BaseModel):
    """One file. With a `content_id` it is an image or the like, shown by `cid:` in the HTML."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    filename: Annotated[
        str,
        StringConstraints(min_length=1, max_length=MAX_NAME_BYTES),
        AfterValidator(_check_file_name),
        Field(json_schema_extra={"pattern": NAME_FORM}),
    ]
    content_type: Annotated[
        str,
        StringConstraints(max_length=MAX_TYPE_CHARS),
        AfterValidator(_check_type),
        Field(json_schema_extra={"pattern": TYPE_FORM}),
    ] = "application/octet-stream"
    content: Annotated[
        str, StringConstraints(max_length=MAX_CONTENT_CHARS), AfterValidator(check_base64)
    ] = Field(
        repr=False,
        description="Base64 with its padding and without line ends",
        json_schema_extra={"contentEncoding": "base64", "pattern": BASE64_FORM},
    )
    content_id: str | None = Field(
        None,
        max_length=MAX_CONTENT_ID_CHARS,
        pattern=CONTENT_ID,
        description="The name that the HTML shows it by: `logo` for `cid:logo`",
    )

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return len(self.content) // 4 * 3 - self.content[-2:].count("=")


A = TypeVar("A", bound=Attachment)


def check_attachments(attachments: Sequence[A]) -> Sequence[A]:
    """Return the attachments if one mail can have them all. Raises ValueError."""
    if sum(each.size for each in attachments) > MAX_ATTACHED_BYTES:
        raise ValueError(f"must be at most {MAX_ATTACHED_BYTES // MIB} MiB together")
    named = [each.content_id for each in attachments if each.content_id is not None]
    if len(set(named)) < len(named):
        raise ValueError("must each have a content_id of its own")
    return attachments


Attachments = Annotated[
    tuple[Attachment, ...],
    Field(max_length=MAX_ATTACHMENTS, fail_fast=True),
    AfterValidator(check_attachments),
]


def _check_calendar(text: str) -> str:
    """Return an iCalendar object as it is. Raises ValueError for anything but one object."""
    if _CONTROL.search(text):
        raise ValueError("must have no control characters but line ends and tabs")
    lines = [line.upper() for line in _LINE_END.split(text.strip())]
    whole = lines[:1] == [_BEGIN] and lines[-1:] == [_END]
    if not whole or lines.count(_BEGIN) > 1 or lines.count(_END) > 1:
        raise ValueError(f"must be one iCalendar object, from {_BEGIN} to {_END}")
    return text


class CalendarObject(BaseModel):
    """An iCalendar object, which a mail program shows as an invitation with its buttons."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    method: CalendarMethod = Field(description="The same as METHOD in the content")
    content: Annotated[
        str,
        StringConstraints(max_length=MAX_CALENDAR_CHARS),
        AfterValidator(_check_calendar),
    ] = Field(repr=False, description="From BEGIN:VCALENDAR to END:VCALENDAR")

    @model_validator(mode="after")
    def _has_its_method(self) -> Self:
        # Outlook shows no buttons where the two differ, and RFC 6047 2.4 wants them equal.
        lines = _LINE_END.split(_FOLD.sub("", self.content))
        found = [method[1] for line in lines if (method := _METHOD.fullmatch(line))]
        if [each.strip().upper() for each in found] != [self.method]:
            raise ValueError(f"must have METHOD:{self.method} in its content, once")
        return self
