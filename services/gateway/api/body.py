"""Pure: the bodies and queries of requests: JSON within limits, without unknown fields.

A body of a few megabytes can hold millions of values, each of which could be a mistake of its own:
values are counted before they are made, and the first wrong item ends a list (issue 10, A2).
Mistakes are described by `shared.contracts.wording`.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import orjson
from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from services.gateway.api.problem import (
    INVALID,
    MALFORMED,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    Mistake,
    Problem,
    overloaded,
)
from shared.contracts import wording
from shared.contracts.message import check_size

MAX_SMALL_BODY_BYTES = 16 * 1024  # a few short fields; larger bodies count in the budget
MAX_FIELDS = 50  # of one object; no model has as many
MAX_GZIP_MEMBERS = 10  # RFC 1952 2.2; each costs a copy of all that follow
CONTENT_CODINGS = ("gzip", "deflate")
BUDGET_RETRY_SECONDS = 1.0  # a large body that has arrived is answered in less
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")  # the beginning of a time (RFC 3339 5.6)
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # by the header that the data have
MAX_MISTAKES = 20  # in one answer
MAX_ITEM_MISTAKES = 5  # of one of many items; one answer has a thousand of them
MAX_NAME_CHARS = 100  # of an unknown field, whose name the client made

_ONE_OR_MORE = frozenset({"to", "cc", "bcc", "reply_to"})  # fields where a string is a list of one


def _as_integer(value: object) -> object:
    """Return a number without a fraction as an integer, anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_date(value: object) -> object:
    """Refuse a number, and digits alone, which the validator would read as seconds since 1970."""
    if isinstance(value, datetime | None) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError(wording.TIME)


RFC3339_TIME = BeforeValidator(_check_date)
# 6.0 is an integer to JSON Schema (2020-12, 4.2.3), and to languages with one kind of number.
INTEGER = BeforeValidator(_as_integer)


class StrictModel(BaseModel):
    """An object from outside, in which an unknown field is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"must have at most {MAX_FIELDS} fields")
        return value


class RequestBody(StrictModel):
    """A request body."""

    max_bytes: ClassVar[int | None] = MAX_SMALL_BODY_BYTES  # None for the limit of the settings


B = TypeVar("B", bound=RequestBody)
Q = TypeVar("Q", bound=StrictModel)


def read(model: type[B], content: bytes) -> B:
    """Return the checked body. Raises Problem, whose text never repeats a value."""
    return checked(model, parse_object(content))


def parse_object(content: bytes) -> Mapping[str, Any]:
    """Return the object of strict JSON, see `parse`. Raises Problem."""
    value = parse(content)
    if not isinstance(value, dict):
        raise Problem(MALFORMED, "The body is not a JSON object.")
    return value


def checked(model: type[Q], value: object) -> Q:
    """Return a value as the model has it. Raises Problem with its mistakes."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(INVALID, errors=described(error)) from None


def checked_item(model: type[Q], value: object) -> Q | Problem:
    """Return one of many values as the model has it, or the problem of its first mistakes."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        return Problem(INVALID, errors=described(error, MAX_ITEM_MISTAKES))


def read_query(model: type[Q], query: MultiMapping[str]) -> Q:
    """Return the checked query, with each parameter at most once. Raises Problem."""
    names = (field.alias or name for name, field in model.model_fields.items())
    twice = [name for name in names if len(query.getall(name, ())) > 1]
    if twice:
        raise Problem(INVALID, errors=[Mistake(f"#/{name}", "is given twice") for name in twice])
    return checked(model, dict(query))


def parse(content: bytes) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """Return the value of strict JSON: in UTF-8, no NaN, no lone surrogate, some 1000 levels.

    Raises Problem.
    """
    try:
        check_size(content, len(content))
    except ValueError as error:
        raise Problem(TOO_LARGE, f"The body {error}.") from None
    try:
        value = orjson.loads(content)
        # Which of two values counts differs between parsers (RFC 8259 4): a proxy may check one and
        # this program read the other. Only the standard library's parser shows both.
        _KEY_CHECKER.decode(content.decode())
    except (ValueError, RecursionError):
        raise Problem(MALFORMED, "The body is not JSON in UTF-8.") from None
    return value


def _check_keys(pairs: Sequence[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        name = twice[:MAX_NAME_CHARS]
        raise Problem(MALFORMED, f'The key "{name}" is there more than once.')


_KEY_CHECKER = json.JSONDecoder(object_pairs_hook=_check_keys, parse_int=str, parse_float=str)


def unpack(content: bytes, coding: str, limit: int) -> bytes:
    """Return the content of a body in a Content-Encoding. Raises Problem.

    At most `limit` + 1 bytes are unpacked: a megabyte of gzip can hold a gigabyte.
    """
    if coding not in CONTENT_CODINGS:
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Encoding must be {' or '.join(CONTENT_CODINGS)}.",
            headers={"Accept-Encoding": ", ".join(CONTENT_CODINGS)},  # RFC 9110 15.5.16
        )
    # The deflate of RFC 9110 8.4.1.2 has the header of RFC 1950; some clients omit it.
    bare = coding == "deflate" and content[:1] and content[0] & 0x0F != zlib.DEFLATED
    unpacked = bytearray()
    try:
        for _ in range(MAX_GZIP_MEMBERS):
            member = zlib.decompressobj(-zlib.MAX_WBITS if bare else _GZIP_OR_ZLIB)
            unpacked += member.decompress(content, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise too_large(limit)
            if not member.eof:
                raise Problem(MALFORMED, "The body cannot be unpacked to its end.")
            content = member.unused_data
            if not content:
                return bytes(unpacked)
    except zlib.error:
        raise Problem(MALFORMED, f"The body is not in {coding}.") from None
    raise Problem(MALFORMED, f"The body must have at most {MAX_GZIP_MEMBERS} gzip members.")


def too_large(limit: int) -> Problem:
    """Return the problem of a body over its limit of bytes."""
    return Problem(TOO_LARGE, f"The body must have at most {limit} bytes.")


class BodyBudget:
    """Bounds the memory of large bodies in flight; one client has at most half of `total_bytes`.

    A body of `largest_bytes` always fits the share of a client.
    """

    def __init__(self, total_bytes: int, largest_bytes: int) -> None:
        self._total = max(total_bytes, largest_bytes)
        self._share = max(total_bytes // 2, largest_bytes)
        self._held: Counter[str] = Counter()

    def hold(self, client: str, size: int) -> Callable[[], None]:
        """Count a body of `size` bytes until the returned function is called.

        Raises Problem when the body exceeds the client's share or the total.
        """
        if self._held[client] + size > self._share or self._held.total() + size > self._total:
            raise overloaded(
                "Too many large requests are under way.",
                "large bodies in flight",
                BUDGET_RETRY_SECONDS,
            )
        self._held[client] += size
        return lambda: self._release(client, size)

    def _release(self, client: str, size: int) -> None:
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]


def described(error: ValidationError, limit: int = MAX_MISTAKES) -> Sequence[Mistake]:
    """Return the mistakes, field by field, at most `limit`."""
    found = error.errors(include_input=False, include_url=False)[:limit]
    return [Mistake(_pointer(each["loc"]), _detail(each)) for each in found]


def _pointer(place: Sequence[str | int]) -> str:
    """Return a JSON Pointer in its form as a URI fragment (RFC 6901 3 and 6)."""
    named = [part for part in place if part != wording.KEY]
    parts = (str(part)[:MAX_NAME_CHARS].replace("~", "~0").replace("/", "~1") for part in named)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in parts)


def _detail(error: ErrorDetails) -> str:
    if error["type"] == "tuple_type" and error["loc"][-1] in _ONE_OR_MORE:
        return "must be a string or a list of strings"
    return wording.detail(error)
