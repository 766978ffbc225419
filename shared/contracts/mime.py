"""Whole mails as programs have composed them: their form and limits, and their header fields.

Such a mail is passed on octet by octet, so what a server could read in two ways is refused: a bare
CR or LF could end the mail early (RFC 5321 2.3.8, "SMTP smuggling").
"""

import base64
import email.header
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from email import policy
from email.errors import InvalidHeaderDefect
from email.headerregistry import Address
from functools import lru_cache
from typing import Annotated, NamedTuple, cast

from pydantic import AfterValidator, Field, StringConstraints

from shared.contracts import address
from shared.contracts.attachment import BASE64_FORM, MIB, check_base64
from shared.contracts.fields import MAX_MAILBOX_CHARS, MAX_SUBJECT_CHARS
from shared.contracts.header import MAX_LINE_CHARS

MAX_MIME_BYTES = 10 * MIB  # as base64 in JSON 13.3 MiB of the 16 that RabbitMQ 4 takes
MAX_HEADER_BYTES = 256 * 1024
MAX_FIELDS = 1000
MAX_PARTS = 1000
MAX_DEPTH = 100  # of multiparts and mails inside each other; the library of the sender recurses
MAX_HOPS = 50  # Received fields: more are a loop (RFC 5321 6.3); Postfix has the same limit
MAX_FROM_CHARS = 2000  # the parser of addresses takes a time that grows with the square
BCC = frozenset({"bcc", "resent-bcc"})

_FIELD_END = re.compile(rb"\r\n(?![ \t])")
# A blank before the colon is obsolete, and still read (RFC 5322 4.5).
_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:", re.DOTALL)
_BOUNDARY = re.compile(rb"boundary\*?[ \t]*=[ \t]*\"?([^\"\r\n;]{1,200})", re.IGNORECASE)
_INNER = re.compile(rb"\ncontent-type[ \t]*:[ \t\r\n]*message/", re.IGNORECASE)
_ID = re.compile(rf"<[!-;=?-~]{{1,{MAX_MAILBOX_CHARS - 2}}}>")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|=(?=\?)")


class HeaderField(NamedTuple):
    """A header field: its name in lower case, and all its octets without the last line end."""

    name: str
    octets: bytes

    @property
    def text(self) -> str:
        """The value on one line, as it was written: not decoded."""
        value = self.octets.partition(b":")[2]
        return value.decode().replace("\r\n", "").strip()


def split(mail: bytes) -> tuple[bytes, bytes]:
    """Return the header with its last line end, and the rest: an empty line and the body."""
    head, separator, _ = mail.partition(b"\r\n\r\n")
    return (mail[: len(head) + 2], mail[len(head) + 2 :]) if separator else (mail, b"")


def read_header(head: bytes) -> Sequence[HeaderField]:
    """Return the fields of a header, in their order. Raises ValueError."""
    if len(head) > MAX_HEADER_BYTES:
        raise ValueError(f"must have a header of at most {MAX_HEADER_BYTES} bytes")
    try:
        head.decode()
    except UnicodeDecodeError:
        raise ValueError("must have a header in ASCII or UTF-8 (RFC 6532)") from None
    lines = _FIELD_END.split(head.removesuffix(b"\r\n"), MAX_FIELDS)
    if len(lines) > MAX_FIELDS:
        raise ValueError(f"must have at most {MAX_FIELDS} header fields")
    return [_field(line) for line in lines]


def _field(line: bytes) -> HeaderField:
    name = _FIELD.match(line)
    if name is None:
        raise ValueError("must begin with header fields, such as From and Subject")
    return HeaderField(name[1].decode().lower(), line)


def join(fields: Iterable[HeaderField]) -> bytes:
    """Return the header of some fields."""
    return b"".join(field.octets + b"\r\n" for field in fields)


def find(fields: Sequence[HeaderField], name: str) -> str | None:
    """Return the value of the field of a name, None without one. Raises ValueError for several."""
    found = [field.text for field in fields if field.name == name]
    if len(found) > 1:
        raise ValueError(f"must have {name.title()} only once")
    return found[0] if found else None


def check_octets(mail: bytes) -> bytes:
    """Return a mail that can be sent as it is. Raises ValueError."""
    if len(mail) > MAX_MIME_BYTES:
        raise ValueError(f"must have at most {MAX_MIME_BYTES} bytes")
    if b"\x00" in mail:
        raise ValueError("must have no NUL (RFC 5321 4.5.2)")
    if not mail.count(b"\r") == mail.count(b"\n") == mail.count(b"\r\n"):
        raise ValueError("must have no bare CR and no bare LF (RFC 5321 2.3.8)")
    lines = mail.split(b"\r\n")
    if lines.pop():
        raise ValueError("must end with CRLF")
    if max(map(len, lines), default=0) > MAX_LINE_CHARS:
        raise ValueError(f"must have lines of at most {MAX_LINE_CHARS} bytes (RFC 5322 2.1.1)")
    _check_structure(mail, lines)
    return mail


def _check_structure(mail: bytes, lines: Sequence[bytes]) -> None:
    """Count the parts by their boundaries, without a parser that could be made to recurse."""
    boundaries = _BOUNDARY.findall(mail)
    if len(boundaries) + len(_INNER.findall(mail)) > MAX_DEPTH:
        raise ValueError(f"must have at most {MAX_DEPTH} multiparts and mails in it")
    if boundaries:
        delimiters = Counter(line.rstrip() for line in lines if line.startswith(b"--"))
        if sum(delimiters[b"--" + each.rstrip()] for each in {*boundaries}) > MAX_PARTS:
            raise ValueError(f"must have at most {MAX_PARTS} parts")


@lru_cache(maxsize=1024)  # the parser takes half a millisecond, and a program has few values
def read_mailbox(value: str) -> str:
    """Return the one mailbox of a From or Sender field in its canonical form. Raises ValueError.

    A name that no header of ours could have is left out.
    """
    if len(value) > MAX_FROM_CHARS:
        raise ValueError(f"must be one mailbox of at most {MAX_FROM_CHARS} characters")
    found = _parsed(value)
    bare = address.check_address(found.addr_spec)
    name = found.display_name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        return address.check_mailbox(f'"{name}" <{bare}>') if name else bare
    except ValueError:
        return bare


def _parsed(value: str) -> Address:
    try:
        header = policy.default.header_factory("From", value)
        (found,) = header.addresses
    except Exception:  # noqa: BLE001 -- the parser raises IndexError, RecursionError and more
        raise ValueError("must be one mailbox such as Ann <ann@example.com>") from None
    # Of `a@a.example <b@b.example>` the parser returns the first address, a mail program the other.
    is_odd = any(isinstance(each, InvalidHeaderDefect) for each in header.defects)
    if is_odd and (value.count("<") != 1 or not value.endswith(f"<{found.addr_spec}>")):
        raise ValueError("must be one mailbox such as Ann <ann@example.com>")
    return cast("Address", found)


def read_message_id(value: str) -> str:
    """Return a Message-ID, whatever is between its angle brackets. Raises ValueError."""
    if not _ID.fullmatch(value):
        raise ValueError("must be an id in angle brackets, of printable ASCII")
    return value


def read_subject(value: str) -> str:
    """Return a subject without its encoded words, cut to the limit of a subject."""
    try:
        decoded = str(email.header.make_header(email.header.decode_header(value)))
    except (ValueError, LookupError):  # a broken encoded word, an unknown charset
        decoded = value
    return _UNSAFE.sub(" ", decoded).strip()[:MAX_SUBJECT_CHARS].encode(errors="replace").decode()


def decode(mime: str) -> bytes:
    """Return the octets of a mail in base64."""
    return base64.b64decode(mime)


def check_claims(mime: str, from_: str, message_id: str) -> None:
    """Raise ValueError unless a mail in base64 has this Message-ID, and the address of `from_`."""
    fields = read_header(split(decode(mime))[0])
    if find(fields, "message-id") != message_id:
        raise ValueError("must have the `message_id` that `mime` has")
    mailbox = read_mailbox(find(fields, "from") or "")
    if address.bare_address(mailbox) != address.bare_address(from_):
        raise ValueError("must have the address in `from` that `mime` has")


def _check_mime(mime: str) -> str:
    mail = check_octets(decode(check_base64(mime)))
    if any(field.name in BCC for field in read_header(split(mail)[0])):
        raise ValueError("must have no Bcc, which everybody would see")
    return mime


Mime = Annotated[
    str,
    StringConstraints(max_length=-(-MAX_MIME_BYTES // 3) * 4),
    AfterValidator(_check_mime),
    Field(json_schema_extra={"contentEncoding": "base64", "pattern": BASE64_FORM}),
]
MessageIdText = Annotated[
    str,
    StringConstraints(max_length=MAX_MAILBOX_CHARS),
    AfterValidator(read_message_id),
    Field(json_schema_extra={"pattern": f"^{_ID.pattern}$"}),
]
