"""Pure: the mistakes of a body in plain words, with limits and without values.

Pydantic's messages name Python types and regular expressions (issue 10, H3).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from services.gateway.api.problem import Mistake
from services.gateway.clients.clients import CLIENT_ID_PATTERN
from shared.contracts import attachment, fields, ledger, suppressions

MAX_MISTAKES = 20  # in one answer
MAX_NAME_CHARS = 100  # of an unknown field, whose name the client made

PATTERNS: Mapping[str, str] = {
    fields.ID: "must be 1 to 100 letters, digits, dots, underscores and hyphens, a letter or digit "
    "first",
    fields.TAG: "must be 1 to 256 letters, digits, underscores and hyphens",
    fields.PURPOSE: "must be 1 to 32 lower-case letters, digits and hyphens, a letter first",
    fields.LOCALE: "must be a language tag such as de or pt-BR",
    attachment.CONTENT_ID: "must be 1 to 100 letters, digits and any of ._+- , a letter or digit "
    "first, such as logo",
    ledger.CURSOR_FORM: "must be `next` of another page",
    suppressions.CURSOR: "must be `next` of another page",
    ledger.TAG_LABEL: "must be the name of a tag, or `name:value`",
    ledger.OWNER_NAME: "must be the id of a client, or empty",
    CLIENT_ID_PATTERN: "must be 1 to 64 lower-case letters, digits, dots, underscores and hyphens, "
    "a letter or digit first",
}
_OBJECT = "must be a JSON object"
TIME = "must be a date and time with its offset from UTC, such as 2026-11-01T12:00:00Z"
# By the validator's type of a mistake, or by that type's first word.
_DETAILS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "model_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
    "enum": "must be {expected}",
    "literal": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be before {lt}",
    "int": "must be a whole number",
    "date": TIME,
    "datetime": TIME,
    "timezone": TIME,
}
_ONE_OR_MORE = frozenset({"to", "cc", "bcc", "reply_to"})  # fields where a string is a list of one
_MEMBER = re.compile(r"<\w+\.\w+: ([^>]*)>")  # a member of an enum, as the validator shows it
_KEY = "[key]"  # the validator's place of a mistake in the key of a mapping


def described(error: ValidationError, limit: int = MAX_MISTAKES) -> Sequence[Mistake]:
    """Return the mistakes, field by field, at most `limit`."""
    found = error.errors(include_input=False, include_url=False)[:limit]
    return [Mistake(_pointer(each["loc"]), _detail(each)) for each in found]


def _pointer(place: Sequence[str | int]) -> str:
    """Return a JSON Pointer in its form as a URI fragment (RFC 6901 3 and 6)."""
    named = [part for part in place if part != _KEY]
    parts = (str(part)[:MAX_NAME_CHARS].replace("~", "~0").replace("/", "~1") for part in named)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in parts)


def _detail(error: ErrorDetails) -> str:
    kind, place, context = error["type"], error["loc"], error.get("ctx", {})
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if kind == "tuple_type" and place[-1] in _ONE_OR_MORE:
        return "must be a string or a list of strings"
    if kind == "string_pattern_mismatch":
        detail = PATTERNS.get(context["pattern"], "has the wrong form")
    else:
        template = _DETAILS.get(kind) or _DETAILS.get(kind.partition("_")[0], "is not valid")
        detail = template.format_map({name: _limit(value) for name, value in context.items()})
    return f"its name {detail}" if place[-1:] == (_KEY,) else detail


def _limit(value: object) -> str:
    """Return a limit as text, a time as in RFC 3339."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return _MEMBER.sub(r"\1", str(value))
