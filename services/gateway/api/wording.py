"""Pure: mistakes in the words of the request's author, with limits and without values.

The validator's own words speak of Python's types and of regular expressions (issue 10, H3).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from services.gateway.api.problem import Mistake
from shared.contracts import attachment, fields

MAX_MISTAKES = 20  # in one answer
MAX_KEY_CHARS = 100  # of an unknown field's name, which is the client's text
CLIENT_ID = r"^[a-z0-9][a-z0-9._-]{0,63}$"

_TIME = "must be a date and time with its offset from UTC, such as 2026-11-01T12:00:00Z"
# The validator takes a key of a mapping for a place of its own.
_KEY = "[key]"
PATTERNS: Mapping[str, str] = {
    fields.ID: "must be 1 to 100 letters, digits, dots, underscores and hyphens, a letter or digit "
    "first",
    fields.PURPOSE: "must be 1 to 32 lower-case letters, digits and hyphens, a letter first",
    fields.LOCALE: "must be a language tag such as de or pt-BR",
    attachment.CONTENT_ID: "must be 1 to 100 letters, digits and any of ._+- , a letter or digit "
    "first, such as logo",
    CLIENT_ID: "must be 1 to 64 lower-case letters, digits, dots, underscores and hyphens, a "
    "letter or digit first",
}
_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is required",
    "extra_forbidden": lambda _: "is not a field of this request",
    "model_type": lambda _: "must be a JSON object",
    "dict_type": lambda _: "must be a JSON object",
    "mapping_type": lambda _: "must be a JSON object",
    "list_type": lambda _: "must be a list",
    "tuple_type": lambda _: "must be a list",
    "string_type": lambda _: "must be a string",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda limit: f"must have at most {limit['max_length']} characters",
    "string_pattern_mismatch": lambda limit: PATTERNS.get(limit["pattern"], "has the wrong form"),
    "too_long": lambda limit: f"must have at most {limit['max_length']} items",
    "enum": lambda limit: f"must be {limit['expected']}",
    "greater_than_equal": lambda limit: f"must be at least {_limit(limit['ge'])}",
    "less_than_equal": lambda limit: f"must be at most {_limit(limit['le'])}",
    "less_than": lambda limit: f"must be before {_limit(limit['lt'])}",
}
_FAMILIES: Mapping[str, str] = {
    "int": "must be a whole number",
    "date": _TIME,
    "datetime": _TIME,
    "timezone": _TIME,
}
_TEXTS = frozenset({"to", "cc", "bcc"})  # where one text stands for a list of it


def mistakes(error: ValidationError, most: int = MAX_MISTAKES) -> Sequence[Mistake]:
    """Return what is wrong, field by field, the first `most` of all."""
    found = error.errors(include_input=False, include_url=False)[:most]
    return [Mistake(_pointer(each["loc"]), _detail(each)) for each in found]


def _pointer(place: Sequence[str | int]) -> str:
    """Return a JSON Pointer in its form as a URI fragment (RFC 6901 3 and 6)."""
    named = [part for part in place if part != _KEY]
    parts = (str(part)[:MAX_KEY_CHARS].replace("~", "~0").replace("/", "~1") for part in named)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in parts)


def _detail(mistake: ErrorDetails) -> str:
    kind, place = mistake["type"], mistake["loc"]
    if kind == "value_error":
        return mistake["msg"].removeprefix("Value error, ")
    if kind == "tuple_type" and place[-1] in _TEXTS:
        return "must be a string or a list of strings"
    words = _WORDS.get(kind)
    family = _FAMILIES.get(kind.partition("_")[0], "is not valid")
    detail = words(mistake.get("ctx", {})) if words else family
    return f"its name {detail}" if place[-1:] == (_KEY,) else detail


def _limit(value: Any) -> str:  # noqa: ANN401 -- a number or a time
    return value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else str(value)
