"""Pure: the meaning of a mail that came to a return path.

A mail is untrusted: it may be forged, malformed or made to be expensive. `read` looks at its first
MAX_READ_OCTETS alone, and refuses what would take long to parse before it parses it.
"""

import binascii
import email
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from email import policy
from email.header import decode_header, make_header
from email.message import Message
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from flufl.bounce import all_failures

from shared.contracts.reports import (
    MAX_HEADER_NAME_CHARS,
    MAX_HEADERS_CHARS,
    MAX_RECEIVED_HEADERS,
    MAX_TEXT_CHARS,
)

MAX_READ_OCTETS = 262_144  # a report is in the first parts; the returned mail follows
MAX_HEADER_LINES = 2_000  # before the first empty line
MAX_LINES = 20_000
MAX_NESTED = 30  # multiparts, and mails in mails: each line is compared with all that are open
MAX_PARTS = 50
MAX_BLOCKS = 100  # recipients of a report
MAX_FIELDS = 100  # of a block
MAX_FIELD_CHARS = 2_000
MAX_HEURISTIC_OCTETS = 65_536  # for the shapes that no standard describes

_HEAD_END = re.compile(rb"\r?\n\r?\n")
# The library parses the blocks of a report as headers of mails, and only those of RFC 3464. As a
# text, a part of RFC 6533 that is in base64 is decoded like any other.
_REPORT_TYPE = re.compile(
    rb"^(content-type:\s*)message/(?:global-)?(delivery-status|feedback-report|disposition-notif"
    rb"ication)",
    re.IGNORECASE | re.MULTILINE,
)
_AS_TEXT = rb"\1text/x-\2"
STATUS_PART, FEEDBACK_PART = "text/x-delivery-status", "text/x-feedback-report"
RECEIPT_PART = "text/x-disposition-notification"  # RFC 8098: it was displayed, or deleted
_RETURNED = frozenset({"message/rfc822", "message/global", "text/rfc822-headers"})
_RETURNED_HEADERS = "message/global-headers"
_BLOCK_END = re.compile(r"\n[ \t]*\n")
_COMMENT = re.compile(r"\([^()]*\)")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 3
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")
_ACTION_OF_STATUS = {"2": "delivered", "4": "delayed", "5": "failed"}
_ADDRESS = re.compile(r"[^\s<>()\"',;:]+@[^\s<>()\"',;:]+")
# The reply of a server in the words of a report that has no field for it.
_QUOTED_REPLY = re.compile(
    r"(?<![\d.])([45]\d\d[ -](?:[45]\.\d{1,3}\.\d{1,3}[ \t]*)?[^\r\n]{3,500})"
)
_DAEMON = re.compile(r"(mailer-?daemon|postmaster|mail[ -]delivery)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_AUTOMATIC_HEADERS = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-response-suppress")


class MailKind(StrEnum):
    """The kind of a mail that came to a return path."""

    DSN = "dsn"  # RFC 3464, or an older form of a bounce
    ARF = "arf"  # RFC 5965
    AUTOMATIC = "automatic"  # a vacation notice or a receipt, which says nothing of delivery
    UNREADABLE = "unreadable"  # a report without what one needs, or one that costs too much
    OTHER = "other"


class Action(StrEnum):
    """The fate of a mail for a recipient, by a report (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


class RecipientBlock(NamedTuple):
    """A report about one recipient; `addresses` are its names, texts are empty if absent."""

    action: Action
    addresses: Sequence[str] = ()
    status: str = ""  # RFC 3463
    diagnostic: str = ""  # the reply of a server, without its type
    remote: str = ""  # the server that had the reply


class Reading(NamedTuple):
    """The meaning of a mail; `paths` are the envelope senders that it names."""

    kind: MailKind
    blocks: Sequence[RecipientBlock] = ()
    reporter: str = ""
    feedback_type: str = ""
    paths: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()  # of a mail that is no report
    text: str = ""
    is_cut: bool = False  # whether there are more headers or text


def read(content: bytes) -> Reading:
    """Return the meaning of a mail. Any octets have one."""
    content = content[:MAX_READ_OCTETS]
    if not _is_bounded(content):
        return Reading(MailKind.UNREADABLE)
    content = _REPORT_TYPE.sub(_AS_TEXT, content)
    mail = email.message_from_bytes(content, policy=policy.compat32)
    parts = list(islice(_parts(mail), MAX_PARTS))
    for part in parts:
        kind = part.get_content_type()
        if kind == STATUS_PART:
            return _delivery_status(_text(part), parts)
        if kind == FEEDBACK_PART:
            return _feedback(_text(part), parts)
        if kind == RECEIPT_PART:
            return Reading(MailKind.AUTOMATIC)
    return _without_standard(mail, content, parts)


def _is_bounded(content: bytes) -> bool:
    """Return whether the parser takes no long time, by a look at the speed of memory."""
    head = _HEAD_END.search(content)
    lines = content.count(b"\n", 0, head.start() if head else len(content))
    lower = content.lower()
    nested = max(lower.count(b"boundary"), lower.count(b"message/"))
    few_lines = lines <= MAX_HEADER_LINES and content.count(b"\n") <= MAX_LINES
    return few_lines and nested <= MAX_NESTED


def _parts(mail: Message) -> Iterator[Message]:
    """Yield the parts in their order, without those of a returned mail."""
    waiting = [mail]
    while waiting:
        part = waiting.pop()
        yield part
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            waiting += [each for each in reversed(_inner(part)) if isinstance(each, Message)]


def _inner(part: Message) -> Sequence[object]:
    inner = part.get_payload()
    return inner if isinstance(inner, list) else []


def _text(part: Message) -> str:
    """Return the text of a leaf, decoded as far as it goes."""
    try:
        octets = part.get_payload(decode=True)
    except (ValueError, binascii.Error, LookupError):
        octets = None
    if not isinstance(octets, bytes):
        return ""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = octets.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _blocks(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the fields of each block of a report, by their names in lower case."""
    for block in islice(_BLOCK_END.split(text.strip("\n")), MAX_BLOCKS):
        fields: dict[str, str] = {}
        name = ""
        for line in islice(block.split("\n"), 10 * MAX_FIELDS):
            if line[:1] in {" ", "\t"} and name:
                fields[name] = f"{fields[name]} {line.strip()}"[:MAX_FIELD_CHARS]
                continue
            before, colon, value = line.partition(":")
            name = before.strip().lower() if colon and len(fields) < MAX_FIELDS else ""
            if name and name not in fields:
                fields[name] = value.strip()[:MAX_FIELD_CHARS]
            elif name:
                name = ""  # the first one counts; what continues the second one is dropped
        if fields:
            yield fields


def _delivery_status(text: str, parts: Sequence[Message]) -> Reading:
    """Return the meaning of a delivery status (RFC 3464, RFC 6533)."""
    reporter, blocks = "", list[RecipientBlock]()
    for fields in _blocks(text):
        reporter = reporter or _typed(fields.get("reporting-mta", ""))
        if "final-recipient" in fields or "original-recipient" in fields or "action" in fields:
            block = _recipient(fields)
            if block is not None:
                blocks.append(block)
    kind = MailKind.DSN if blocks else MailKind.UNREADABLE
    return Reading(kind, blocks, reporter, paths=_paths(parts))


def _recipient(fields: Mapping[str, str]) -> RecipientBlock | None:
    status = _STATUS.search(_COMMENT.sub("", fields.get("status", "")))
    action = _COMMENT.sub("", fields.get("action", "")).strip().lower()
    if action not in set(Action):
        # A report without an action that means anything may still have a status.
        action = _ACTION_OF_STATUS[status[1]] if status and not action else ""
    if not action:
        return None
    names = (fields.get("final-recipient", ""), fields.get("original-recipient", ""))
    diagnostic = fields.get("diagnostic-code", "")
    kind, semicolon, rest = diagnostic.partition(";")
    if semicolon and re.fullmatch(r"[A-Za-z0-9-]+", _COMMENT.sub("", kind).strip()):
        diagnostic = rest
    return RecipientBlock(
        Action(action),
        tuple(dict.fromkeys(filter(None, map(_address, names)))),
        status[0] if status else "",
        " ".join(diagnostic.split()),
        _typed(fields.get("remote-mta", "")),
    )


def _typed(value: str) -> str:
    """Return the value of a field that may begin with its type, such as `dns; mx.example`."""
    return _COMMENT.sub("", value.rpartition(";")[2]).strip().strip("<>").strip()


def _address(value: str) -> str:
    """Return the bare address of a field such as `rfc822; <ann@example.org>`."""
    kind, semicolon, rest = value.partition(";")
    text = (rest if semicolon else kind).strip()
    if "=?" in text:
        text = _decoded(text)
    text = _UNICODE.sub(_character, text).strip().strip("<>").strip()
    return text.removeprefix("mailto:").strip('"')


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number < 0xD800 or 0xE000 <= number <= 0x10FFFF else ""  # noqa: PLR2004 -- Unicode's surrogates and end


def _decoded(text: str) -> str:
    """Return an address with its encoded words decoded (RFC 2047); it has no blanks."""
    try:
        return "".join(str(make_header(decode_header(text))).split())
    except (ValueError, LookupError, binascii.Error, email.errors.HeaderParseError):
        return text


def _paths(parts: Sequence[Message]) -> Sequence[str]:
    """Return the envelope senders that the headers of returned mails name."""
    found = list[str]()
    for part in parts:
        kind = part.get_content_type()
        if kind not in _RETURNED and kind != _RETURNED_HEADERS:
            continue
        inner = _inner(part)
        if inner and isinstance(inner[0], Message):
            headers: Message = inner[0]
        else:
            headers = email.message_from_string(_text(part)[:MAX_READ_OCTETS])
        found += (_address(str(each)) for each in headers.get_all("Return-Path", [])[:MAX_FIELDS])
    return tuple(filter(None, found))


def _feedback(text: str, parts: Sequence[Message]) -> Reading:
    """Return the meaning of a feedback report (RFC 5965)."""
    fields = next(_blocks(text), {})
    kind = _COMMENT.sub("", fields.get("feedback-type", "")).strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,49}", kind):
        return Reading(MailKind.UNREADABLE)
    sender = _address(fields.get("original-mail-from", ""))
    reporter = _typed(fields.get("reporting-mta", "")) or fields.get("user-agent", "").split("/")[0]
    paths = tuple(filter(None, (sender, *_paths(parts))))
    return Reading(MailKind.ARF, (), reporter, kind, paths)


def _without_standard(mail: Message, content: bytes, parts: Sequence[Message]) -> Reading:
    """Return the meaning of a mail that has no part for programs."""
    if str(mail.get_param("report-type") or "").lower() in {"delivery-status", "feedback-report"}:
        return Reading(MailKind.UNREADABLE)
    is_daemon = _DAEMON.search(str(mail.get("From", ""))) is not None
    if _is_automatic(mail) and not is_daemon:
        return Reading(MailKind.AUTOMATIC)
    short = email.message_from_bytes(content[:MAX_HEURISTIC_OCTETS], policy=policy.compat32)
    if "From" not in short:
        short["From"] = "nobody@invalid"  # its detectors take one for granted
    try:
        delayed, failed = all_failures(short)
    except Exception:  # noqa: BLE001 -- its detectors raise any error for what they do not expect
        return Reading(MailKind.UNREADABLE)
    diagnostic = _quoted_reply(parts)
    blocks = [
        RecipientBlock(action, (_address(each.decode(errors="replace")),), "", diagnostic)
        for action, names in ((Action.FAILED, failed), (Action.DELAYED, delayed))
        for each in sorted(names)[:MAX_BLOCKS]
    ]
    if not blocks:
        return _other(mail, parts, is_cut=len(content) >= MAX_READ_OCTETS)
    found = _ADDRESS.search(str(mail.get("From", "")))
    reporter = found[0].rpartition("@")[2] if found else ""
    return Reading(MailKind.DSN, blocks, reporter, paths=_paths(parts))


def _other(mail: Message, parts: Sequence[Message], *, is_cut: bool) -> Reading:
    """Return what a person wrote, as far as it is told: the first headers, and the text's start."""
    headers, left = list[tuple[str, str]](), MAX_HEADERS_CHARS
    for name, value in mail.items()[:MAX_RECEIVED_HEADERS]:
        field = (_printable(name)[:MAX_HEADER_NAME_CHARS], _header_text(str(value)))
        left -= sum(map(len, field))
        if left < 0:
            break
        headers.append(field)
    plain = next((part for part in parts if part.get_content_type() == "text/plain"), None)
    text = "" if plain is None else _written(plain)
    is_cut = is_cut or len(headers) < len(mail.keys()) or len(text) > MAX_TEXT_CHARS
    paths = _paths(parts)
    return Reading(MailKind.OTHER, (), "", "", paths, headers, text[:MAX_TEXT_CHARS], is_cut)


def _header_text(value: str) -> str:
    with suppress(ValueError, LookupError, binascii.Error, email.errors.HeaderParseError):
        value = str(make_header(decode_header(value)))
    return " ".join(_printable(value).split())


def _written(part: Message) -> str:
    """Return the text of a part in its charset."""
    charset = part.get_content_charset("utf-8")
    try:
        octets = part.get_payload(decode=True)
        text = octets.decode(charset) if isinstance(octets, bytes) else ""
    except (ValueError, LookupError, binascii.Error):
        text = _text(part)
    return _printable(text.replace("\r\n", "\n"))


def _printable(text: str) -> str:
    """Return a text without control characters, but for tabs and line ends."""
    return _CONTROL.sub("", text.encode(errors="replace").decode())


def _is_automatic(mail: Message) -> bool:
    """Return whether a program has answered for a person (RFC 3834 and what was before it)."""
    submitted = str(mail.get("Auto-Submitted", "no")).partition(";")[0].strip().lower()
    precedence = str(mail.get("Precedence", "")).strip().lower()
    return (
        submitted != "no"
        or precedence in {"auto_reply", "auto-reply"}
        or any(name in mail for name in _AUTOMATIC_HEADERS)
    )


def _quoted_reply(parts: Sequence[Message]) -> str:
    """Return the first reply of a server that a text quotes, empty if there is none."""
    for part in parts:
        if part.get_content_type() == "text/plain":
            found = _QUOTED_REPLY.search(_text(part)[:MAX_HEURISTIC_OCTETS])
            return " ".join(found[1].split()) if found else ""
    return ""
