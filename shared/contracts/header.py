"""Header fields that a caller may set: an allow-list, with the form of each field.

Fields that we write ourselves or that others trust are not on it: From and the other addresses,
Date, Message-ID, Received, Return-Path, Content-*, DKIM-* and the like.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from shared.contracts import address, fields

MAX_HEADERS = 50
MAX_LINE_CHARS = 998  # octets of a line without CRLF (RFC 5322 2.1.1)
MAX_VALUE_CHARS = 8_000  # References of a long thread; all others fit one line or have 900
MAX_FIELD_CHARS = 900  # as of a subject
UNSUBSCRIBE, ONE_CLICK = "List-Unsubscribe", "List-Unsubscribe-Post"

_NAME = re.compile(r"[!-9;-~]{1,60}")  # RFC 5322 2.2
_CUSTOM = re.compile(r"[Xx](?:-[A-Za-z0-9_]+)+")
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")  # printable ASCII, single spaces
_URI = r"<(?:https?|mailto):[!-;=?-~]+>"
_URIS = re.compile(rf"{_URI}(?:, ?{_URI})*", re.IGNORECASE)
_HTTPS = re.compile(r"<https:", re.IGNORECASE)
_ID = r"<[!-;=?A-~]+@[!-;=?A-~]+>"  # RFC 5322 3.6.4
_IDS = re.compile(rf"{_ID}(?: {_ID})*")
_LIST_ID = re.compile(r".*<[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+>")  # RFC 2919 3

Rule = Callable[[str, str], str]  # name and value in, the canonical value out, or ValueError


def check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields, names in the usual spelling. Raises ValueError, without a value."""
    checked: dict[str, str] = {}
    for given, value in headers.items():
        name = _checked_name(given)
        if name.lower() in map(str.lower, checked):
            raise ValueError(f"{name} must be there only once")
        checked[name] = _checked_value(name, value)
    # RFC 8058 3.1: the URI that receives the POST must be unambiguous.
    if ONE_CLICK in checked and len(_HTTPS.findall(checked.get(UNSUBSCRIBE, ""))) != 1:
        raise ValueError(f"{ONE_CLICK} must go with a {UNSUBSCRIBE} that has one https URI")
    return checked


def _checked_name(given: str) -> str:
    if not _NAME.fullmatch(given):
        raise ValueError("must have names of 1 to 60 printable ASCII characters without a colon")
    known = _SPELLING.get(given.lower())
    if known is None and not _CUSTOM.fullmatch(given):
        raise ValueError(f"{given} must not be set; {', '.join(KNOWN)} and X-* may")
    return known or given


def _checked_value(name: str, value: str) -> str:
    try:
        return _RULES.get(name, _text)(name, address.check_header_text(value))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _line(pattern: re.Pattern[str], hint: str) -> Rule:
    """Return the rule of a field that is sent as it is, on one line."""

    def check(name: str, value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"must be {hint}")
        if len(f"{name}: {value}") > MAX_LINE_CHARS:
            raise ValueError(
                f"must have at most {MAX_LINE_CHARS} characters together with its name"
            )
        return value

    return check


def _ids(_: str, value: str) -> str:
    ids = value.split()
    if not _IDS.fullmatch(" ".join(ids)) or max(map(len, ids)) > MAX_FIELD_CHARS:
        raise ValueError("must be message ids in angle brackets with spaces between them")
    return " ".join(ids)


def _list_id(_: str, value: str) -> str:
    if not _LIST_ID.fullmatch(value) or len(value) > MAX_FIELD_CHARS:
        raise ValueError("must be a list's id in angle brackets, perhaps after its name")
    try:
        address.split_mailbox(value)
    except ValueError:
        raise ValueError('must have a name with any of ()<>[]:;@\\," in quotes') from None
    return value


def _text(_: str, value: str) -> str:
    if not value or value != value.strip() or len(value) > MAX_FIELD_CHARS:
        raise ValueError(f"must have 1 to {MAX_FIELD_CHARS} characters without outer spaces")
    return value


# Mailbox providers do not find a List-Unsubscribe that is folded or encoded (RFC 8058 3.1).
_uris = _line(_URIS, "URIs (https, http, mailto) in angle brackets with commas between them")
_RULES: Mapping[str, Rule] = {
    "List-Id": _list_id,
    UNSUBSCRIBE: _uris,
    ONE_CLICK: _line(re.compile("List-Unsubscribe=One-Click"), "List-Unsubscribe=One-Click"),
    "List-Subscribe": _uris,
    "List-Help": _uris,
    "List-Archive": _uris,
    "List-Owner": _uris,
    "List-Post": _line(re.compile(rf"NO|{_URIS.pattern}", re.IGNORECASE), "NO or URIs"),
    "Precedence": _line(re.compile("[A-Za-z-]+"), "one word"),
    "References": _ids,
    "In-Reply-To": _ids,
    "Feedback-ID": _line(_PLAIN, "printable ASCII"),
}
KNOWN = tuple(_RULES)
_SPELLING = {name.lower(): name for name in KNOWN}

Headers = Annotated[
    Mapping[
        Annotated[str, StringConstraints(max_length=MAX_LINE_CHARS)],
        Annotated[str, StringConstraints(max_length=MAX_VALUE_CHARS)],
    ],
    Field(max_length=MAX_HEADERS),
    fields.at_most(MAX_HEADERS),
    AfterValidator(check_headers),
]
