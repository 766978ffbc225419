"""A received mail, parsed for people, and its attachments for a browser. Pure; it never fails.

Mails are hostile input: unknown charsets, broken MIME, raw 8-bit headers. The lenient `compat32`
policy is used, since the modern one parses each structured header and raises on some. Attachments
are hostile on the origin of the API: a browser must save everything that it could run there (HTML,
SVG, PDF with scripts).
"""

import base64
import email.header
import email.message
import email.parser
import html
import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Final
from urllib.parse import quote, unquote

_FOLD: Final = re.compile(r"\r?\n[ \t]*")
_WORD: Final = r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?="  # RFC 2047 2
_ENCODED_WORDS: Final = re.compile(rf"{_WORD}(?:\s+{_WORD})*")
_BOUNDARY_LINE: Final = re.compile(rb"^--", re.MULTILINE)
_HEADER_LIMIT: Final = 256 * 1024  # octets that are parsed
# Each boundary line takes the parser some 20 µs; a mail with more is shown as its source.
MAX_BOUNDARY_LINES: Final = 10_000
SEARCHED_CHARS: Final = 8192  # of a body's text, kept for each mail that was listed
# A tag, or a style or script with its text. It stops at each `<`, so that it takes linear time.
_TAG: Final = re.compile(r"<(?:style|script)\b[^<]*|<[^<>]*>", re.IGNORECASE)
# Python's own escapes are no charsets of mails, and warn about bad input.
_NO_CHARSETS: Final = frozenset({"unicode_escape", "raw_unicode_escape"})
# Types that a browser shows without running code.
VIEWABLE: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "text/plain"}
)
FILENAME_CHARS: Final = 100  # in the header; file systems allow 255 octets
INLINED_OCTETS: Final = 32 * 2**20  # of the images in one mail's HTML
_RULES: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self'"
_CHARSET: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
# A URL (RFC 2392) in an attribute or in a style's `url()`.
_CID: Final = re.compile(r"""(["'=(]\s*)cid:([^\s"'<>)]+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MailAttachment:
    """A part that is no body; `size` in octets, `content_id` without the brackets."""

    filename: str
    content_type: str
    size: int
    content_id: str | None
    charset: str | None
    octets: bytes


@dataclass(frozen=True, slots=True)
class ParsedMail:
    """The first text and the first HTML of a mail, and all other parts."""

    text: str | None
    html: str | None
    attachments: tuple[MailAttachment, ...] = ()


@dataclass(frozen=True, slots=True)
class MailSummary:
    """The parts of a mail that a list shows and searches.

    `searched` is in lower case and holds the first `SEARCHED_CHARS` of the text, or of the
    HTML without its tags.
    """

    subject: str
    searched: str
    attachments: int


def summary(raw: bytes) -> MailSummary:
    """Return the summary of a mail."""
    content = read(raw)
    shown = content.text or html.unescape(_TAG.sub(" ", content.html or ""))
    named = headers(raw).items()
    return MailSummary(
        subject=next((value for name, value in named if name.lower() == "subject"), ""),
        searched=" ".join(shown.lower().split())[:SEARCHED_CHARS],
        attachments=len(content.attachments),
    )


def headers(raw: bytes) -> Mapping[str, str]:
    """Return the decoded headers by name, in their first spelling.

    A header that occurs more than once has one value a line.
    """
    head = email.parser.BytesHeaderParser().parsebytes(raw[:_HEADER_LIMIT])
    found: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, value in head.raw_items():
        name = spelled.setdefault(name.lower(), _text(name))  # noqa: PLW2901  # one spelling for all
        decoded = _decoded(str(value))
        found[name] = f"{found[name]}\n{decoded}" if name in found else decoded
    return found


def read(raw: bytes) -> ParsedMail:
    """Return the bodies and attachments; the source as text if its MIME cannot be parsed."""
    try:
        return _read(raw)
    except Exception:  # noqa: BLE001  # the parser's failures on hostile mail are many
        return ParsedMail(raw.decode("utf-8", "replace"), None)


def _read(raw: bytes) -> ParsedMail:
    if len(list(islice(_BOUNDARY_LINE.finditer(raw), MAX_BOUNDARY_LINES))) == MAX_BOUNDARY_LINES:
        raise ValueError("too many parts")
    bodies: dict[str, str] = {}
    attachments = []
    for part in _leaves(email.parser.BytesParser().parsebytes(raw)):
        kind = part.get_content_type()
        if kind in bodies or not _is_body(part, kind):
            attachments.append(_attachment(part, kind))
        else:
            bodies[kind] = _body(part)
    return ParsedMail(bodies.get("text/plain"), bodies.get("text/html"), tuple(attachments))


def _leaves(part: email.message.Message) -> Iterator[email.message.Message]:
    """Yield the parts; a mail that is attached to this one is one part."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for child in _children(part):
            yield from _leaves(child)
    else:
        yield part


def _children(part: email.message.Message) -> list[email.message.Message]:
    payload = part.get_payload()
    children = payload if isinstance(payload, list) else []
    return [child for child in children if isinstance(child, email.message.Message)]


def _is_body(part: email.message.Message, kind: str) -> bool:
    attached = part.get_content_disposition() == "attachment"
    return kind in {"text/plain", "text/html"} and not attached


def _attachment(part: email.message.Message, kind: str) -> MailAttachment:
    octets = _octets(part)
    content_id = part.get("Content-ID")
    return MailAttachment(
        filename=_filename(part, kind),
        content_type=_text(kind),
        size=len(octets),
        content_id=_text(str(content_id)).strip().strip("<>") if content_id else None,
        charset=part.get_content_charset(),
        octets=octets,
    )


def _filename(part: email.message.Message, kind: str) -> str:
    name = part.get_filename()
    return _decoded(str(name)) if name else f"unnamed{mimetypes.guess_extension(kind) or ''}"


def _octets(part: email.message.Message) -> bytes:
    if part.is_multipart():  # message/rfc822 has one child, a delivery report one a block
        return b"\n".join(child.as_bytes() for child in _children(part))
    octets = part.get_payload(decode=True)
    return octets if isinstance(octets, bytes) else b""


def _body(part: email.message.Message) -> str:
    text = _in_charset(_octets(part), part.get_content_charset() or "utf-8")
    return text.replace("\r\n", "\n")


def _decoded(value: str) -> str:
    """Return a raw header value unfolded, its encoded words decoded (RFC 2047)."""
    line = _FOLD.sub(" ", _text(value)).strip()
    return _ENCODED_WORDS.sub(_decoded_words, line)


def _decoded_words(run: re.Match[str]) -> str:
    # Only whole runs of encoded words: `decode_header` escapes the rest of a mixed line.
    try:
        pieces = email.header.decode_header(run[0])
    except ValueError:  # HeaderParseError is one: bad base64
        return run[0]
    return "".join(
        piece if isinstance(piece, str) else _in_charset(piece, charset or "utf-8")
        for piece, charset in pieces
    )


def _text(surrogates: str) -> str:
    """Return text without the surrogates in which the parser hides 8-bit octets."""
    return surrogates.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _in_charset(octets: bytes, charset: str) -> str:
    if charset.lower().replace("-", "_") in _NO_CHARSETS:
        charset = "utf-8"
    try:
        text = octets.decode(charset, "replace")
    except (LookupError, ValueError):
        text = octets.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()  # utf-7 may smuggle surrogates


@dataclass(frozen=True, eq=False)
class StoredMail:
    """A received mail: its envelope and its octets, parsed on demand.

    `id` sorts by arrival. `sender` is empty for a bounce. `recipients` are those of the envelope,
    and so include Bcc.
    """

    id: str
    sender: str
    recipients: tuple[str, ...]
    received_at: datetime
    raw: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """The decoded headers by name; not cached, for they can be large."""
        return headers(self.raw)

    @property
    def subject(self) -> str:
        """The decoded subject, empty without one."""
        return self.summary.subject

    @cached_property
    def summary(self) -> MailSummary:
        """The summary of the mail for a list; cached."""
        return summary(self.raw)

    def content(self) -> ParsedMail:
        """Return the bodies and attachments; not cached, for they can be large."""
        return read(self.raw)

    def mentions(self, part: str) -> bool:
        """Return whether a recipient, the sender, the subject or the text contains `part`.

        Case and line breaks are ignored.
        """
        part = part.lower()
        if self.is_to(part) or part in self.sender.lower():
            return True
        return part in self.subject.lower() or " ".join(part.split()) in self.summary.searched

    def is_to(self, part: str) -> bool:
        """Return whether a recipient's address contains `part`, which is in lower case."""
        return any(part in recipient.lower() for recipient in self.recipients)


def is_viewable(attachment: MailAttachment) -> bool:
    """Return whether a browser may show it instead of saving it."""
    return attachment.content_type in VIEWABLE


def response_headers(attachment: MailAttachment) -> Mapping[str, str]:
    """Return the HTTP headers: all but viewable types are files to be saved."""
    viewable = is_viewable(attachment)
    name = quote(filename(attachment), safe="")
    disposition = "inline" if viewable else "attachment"
    return {
        "Content-Type": _served_type(attachment) if viewable else "application/octet-stream",
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{name}",  # RFC 6266 4.1
        "Content-Security-Policy": _RULES,
    }


def filename(attachment: MailAttachment) -> str:
    """Return its name without folders, control and direction characters."""
    plain = "".join(char for char in attachment.filename if char.isprintable())
    root, dot, suffix = re.sub(r"[/\\:]", "_", plain).lstrip(". ").rpartition(".")
    if len(suffix) >= FILENAME_CHARS // 2:
        return f"{root}{dot}{suffix}"[:FILENAME_CHARS]
    return f"{root[: FILENAME_CHARS - len(suffix) - 1]}{dot}{suffix}" or "unnamed"


def with_images(text: str, attachments: Sequence[MailAttachment]) -> str:
    """Return HTML in which `data:` URLs replace the `cid:` URLs of images.

    References beyond `INLINED_OCTETS` in all, and unknown ones, stay as they are.
    """
    images = {
        each.content_id: each
        for each in reversed(attachments)
        if each.content_id and each.content_type.startswith("image/")
    }
    left = INLINED_OCTETS

    def inline(match: re.Match[str]) -> str:
        nonlocal left
        image = images.get(unquote(html.unescape(match[2])))
        if image is None or image.size > left:
            return match[0]
        left -= image.size
        encoded = base64.b64encode(image.octets).decode()
        return f"{match[1]}data:{quote(image.content_type, safe='/+')};base64,{encoded}"

    return _CID.sub(inline, text)


def _served_type(attachment: MailAttachment) -> str:
    if attachment.content_type != "text/plain":
        return attachment.content_type
    charset = attachment.charset or ""
    return f"text/plain; charset={charset if _CHARSET.fullmatch(charset) else 'utf-8'}"
