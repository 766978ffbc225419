"""The MIME entities of a mail: its texts, its files, and the multiparts around them.

They are 7-bit, even for a server that offers 8BITMIME. The octets must not depend on a connection:
every attempt sends the same, and a signature must survive a later relay that would have to convert
8-bit text (RFC 6376 5.3).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.sender.mail import headers
from shared.contracts.attachment import Attachment, CalendarObject
from shared.contracts.header import MAX_LINE_CHARS

_SEVEN_BIT = b"\t\r\n" + bytes(range(0x20, 0x7F))  # need no encoding
# Quoted-printable makes three octets of one that is not ASCII, base64 four of three.
QUOTED_PRINTABLE_SHARE = 1 / 6
BASE64_COLUMNS = 76  # RFC 2045 6.8
# The standard library encodes a blank at the end of a line as =20 without counting the two columns
# that this adds: lines of 77 and 78 (issue 10, S8).
_OVERLONG = re.compile(r"^([^\r]{74,75})(=20|=09)\r", re.MULTILINE)


@dataclass(frozen=True, slots=True, repr=False)
class MailContent:
    """The text of a mail, its HTML form, or both."""

    text: str | None = None
    html: str | None = None


def entity(
    content: MailContent, files: Sequence[Attachment], calendar: CalendarObject | None = None
) -> str:
    """Return the body with its MIME headers, in as few levels as possible.

    mixed(alternative(text, related(html, images), calendar), files). Images are parts of the HTML
    form, so that a mail program that shows the text does not show them; without HTML they are
    files. A calendar is a form of the text, with its method: as a file it would have no buttons in
    Gmail and Outlook.
    """
    forms = [_text("plain", content.text), _text("html", content.html), _calendar(calendar)]
    # A file's base64 holds no line that could be a boundary.
    digest = hashlib.blake2b("".join(forms).encode(), digest_size=16).hexdigest()
    shown = [_file(each, "inline") for each in files if _is_shown(each, content)]
    if shown:
        forms[1] = _multipart('related; type="text/html"', [forms[1], *shown], digest)
    # The last form is the preferred one (RFC 2046 5.1.4).
    texts = _multipart("alternative", [form for form in forms if form], digest)
    others = [_file(each, "attachment") for each in files if not _is_shown(each, content)]
    return _multipart("mixed", [texts, *others], digest)


def _is_shown(file: Attachment, content: MailContent) -> bool:
    return file.content_id is not None and content.html is not None


def _multipart(subtype: str, parts: Sequence[str], digest: str) -> str:
    """Join parts; a single part needs no multipart.

    No boundary begins with another, and no text contains one, since it has the hash of the texts.
    """
    if len(parts) == 1:
        return parts[0]
    boundary = f"=_{subtype.partition(';')[0]}_{digest}"
    inner = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return (
        f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n'
        f"\r\n{inner}--{boundary}--\r\n"
    )


def _file(file: Attachment, disposition: str) -> str:
    content = file.content
    lines = [
        content[start : start + BASE64_COLUMNS] for start in range(0, len(content), BASE64_COLUMNS)
    ]
    content_id = f"Content-ID: <{file.content_id}>\r\n" if file.content_id else ""
    return (
        f"Content-Type: {file.content_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {disposition}{headers.parameter('filename', file.filename)}\r\n"
        f"{content_id}\r\n" + "\r\n".join(lines) + "\r\n"
    )


def _calendar(calendar: CalendarObject | None) -> str:
    if calendar is None:
        return ""
    return _text("calendar", calendar.content, f"; method={calendar.method}")  # RFC 6047 2.4


def _text(subtype: str, text: str | None, parameter: str = "") -> str:
    if text is None:
        return ""
    lines = _canonical(text)
    if not lines.endswith("\r\n"):
        lines += "\r\n"
    encoding, body = _encoded(lines)
    return (
        f"Content-Type: text/{subtype}; charset=utf-8{parameter}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"
    )


def _canonical(text: str) -> str:
    """Return `text` with CRLF for each line end of any kind (RFC 2046 4.1.1)."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\r\n")


def _encoded(lines: str) -> tuple[str, str]:
    """Return the cheapest transfer encoding that makes `lines` 7-bit clean, and the result."""
    octets = lines.encode()
    # A regular expression takes five times as long.
    longest = max(map(len, lines.split("\r\n")))
    if not octets.translate(None, _SEVEN_BIT) and longest <= MAX_LINE_CHARS:
        return "7bit", lines
    if len(octets) - len(lines) > len(octets) * QUOTED_PRINTABLE_SHARE:
        body = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        return "base64", body.decode()
    return "quoted-printable", _OVERLONG.sub(r"\1=\r\n\2\r", binascii.b2a_qp(octets).decode())
