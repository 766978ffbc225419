"""The attachments of a mail: file names, media types and base64, checked when they come in."""

import re
import string
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

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


def _check_base64(text: str) -> str:
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
        str, StringConstraints(max_length=MAX_CONTENT_CHARS), AfterValidator(_check_base64)
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
