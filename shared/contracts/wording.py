"""Mistakes of messages and of settings in plain words, without values.

pydantic's messages name Python types and regular expressions (issue 10, H3).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic_core import ErrorDetails

from shared.contracts import (
    attachment,
    clients,
    content,
    fields,
    frequency,
    ledger,
    suppressions,
    webhooks,
)

PATTERNS: Mapping[str, str] = {
    fields.ID: "must be 1 to 100 letters, digits, dots, underscores and hyphens, a letter or digit "
    "first",
    fields.TAG: "must be 1 to 256 letters, digits, underscores and hyphens",
    fields.PURPOSE: "must be 1 to 32 lower-case letters, digits and hyphens, a letter first",
    fields.LOCALE: "must be a language tag such as de or pt-BR",
    frequency.FREQUENCY: "must be @hourly, @daily, @weekly, @monthly, or a cron expression of five "
    "fields",
    frequency.LOCAL_TIME: "must be a time such as 08:30, mon 08:30 or 31 08:30",
    frequency.TIMEZONE: "must be a time zone of the IANA, such as Europe/Berlin",
    attachment.CONTENT_ID: "must be 1 to 100 letters, digits and any of ._+- , a letter or digit "
    "first, such as logo",
    ledger.CURSOR_FORM: "must be `next` of another page",
    content.NOT_BLANK: "must not be blank",
    content.CONTENT_CURSOR: "must be `next` of another page",
    suppressions.CURSOR: "must be `next` of another page",
    webhooks.EVENT_TYPE: "must be a type of events, such as email.bounced or email.*",
    webhooks.DELIVERY_CURSOR: "must be `next` of another page",
    ledger.TAG_LABEL: "must be the name of a tag, or `name:value`",
    ledger.OWNER_NAME: "must be the id of a client, or empty",
    clients.CLIENT_ID_PATTERN: "must be 1 to 64 lower-case letters, digits, dots, underscores and "
    "hyphens, a letter or digit first",
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
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} items",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
    "json_invalid": "is not JSON: {error}",
    "enum": "must be {expected}",
    "literal": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be before {lt}",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "path": "must be the path of a file",
    "date": TIME,
    "datetime": TIME,
    "timezone": TIME,
}
_TOO_SHORT = ("string_too_short", "too_short")
MAX_PLACE_CHARS = 100
KEY = "[key]"  # the validator's place of a mistake in the key of a mapping
_MEMBER = re.compile(r"<\w+\.\w+: ([^>]*)>")  # a member of an enum, as the validator shows it


def place(parts: Sequence[str | int]) -> str:
    """Return the path of a value; the name of a mapping's entry is part of the input."""
    named = (str(part)[:MAX_PLACE_CHARS] for part in parts if part not in ("", KEY))
    return ".".join(named) or "body"


def detail(error: ErrorDetails) -> str:
    """Return what is wrong with a value, as the end of a sentence that begins with its place."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if kind in _TOO_SHORT and context["min_length"] == 1:
        text = "must not be empty"
    elif kind == "string_pattern_mismatch":
        text = PATTERNS.get(context["pattern"], "has the wrong form")
    else:
        template = _DETAILS.get(kind) or _DETAILS.get(kind.partition("_")[0], "is not valid")
        text = template.format_map({name: _limit(value) for name, value in context.items()})
    return f"its name {text}" if error["loc"][-1:] == (KEY,) else text


def _limit(value: object) -> str:
    """Return a limit as text, a time as in RFC 3339."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float):
        return f"{value:.15g}"
    return _MEMBER.sub(r"\1", str(value))
