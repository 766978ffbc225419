"""Pure: reading a body of JSON. Unknown fields are refused, and no mistake repeats a value.

A body of a few megabytes can hold millions of values, each of which could be a mistake of its own:
values are counted before they are made, and the first wrong item ends a list (issue 10, A2).
"""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from services.gateway.api import wording
from services.gateway.api.problem import (
    INVALID,
    MALFORMED,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from services.gateway.api.wording import MAX_KEY_CHARS
from shared.contracts.message import check_size

SMALL = 16 * 1024  # bytes: a body of a few short fields
CODINGS = ("gzip", "deflate")  # of a request's body
_ANY_HEADER = zlib.MAX_WBITS | 32  # of gzip or zlib, whichever is there
MAX_MEMBERS = 10  # of gzip (RFC 1952 2.2), of which each costs a copy of all that follow
MAX_FIELDS = 50  # of one object; no model has as many


@dataclass(frozen=True, slots=True)
class RequestStamp:
    """What the gateway gives everything it accepts: an id and the time."""

    id: str
    at: datetime


class StrictModel(BaseModel):
    """An object from outside: a field that the model does not name is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"must have at most {MAX_FIELDS} fields")
        return value


class RequestBody(StrictModel):
    """A request body."""

    most: ClassVar[int | None] = SMALL  # bytes; None for what the settings say


B = TypeVar("B", bound=RequestBody)


def read(model: type[B], body: bytes) -> B:
    """Read a body. Raises Problem, whose text never repeats a value."""
    value = parse(body)
    if not isinstance(value, dict):
        raise Problem(MALFORMED, "The body is not a JSON object.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(INVALID, errors=wording.mistakes(error)) from None


def parse(body: bytes) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """Read JSON: strict UTF-8, no NaN, no lone surrogate, at most some 1000 deep.

    Raises Problem.
    """
    try:
        check_size(body, len(body))
    except ValueError as error:
        raise Problem(TOO_LARGE, f"The body {error}.") from None
    try:
        value = orjson.loads(body)
        # Which of two values counts differs between parsers (RFC 8259 4): a proxy may check one and
        # this program take the other. Only the standard library's parser shows both.
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise Problem(MALFORMED, "The body is not JSON in UTF-8.") from None
    return value


def unpack(content: bytes, coding: str, limit: int) -> bytes:
    """Return the content of a body in a Content-Encoding, and make at most `limit` bytes + 1 of it.

    Raises Problem.
    """
    if coding not in CODINGS:
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Encoding must be {' or '.join(CODINGS)}.",
            headers={"Accept-Encoding": ", ".join(CODINGS)},  # RFC 9110 15.5.16
        )
    # The deflate of RFC 9110 8.4.1.2 has the header of RFC 1950; some clients leave that out.
    bare = coding == "deflate" and content[:1] and content[0] & 0x0F != zlib.DEFLATED
    unpacked = bytearray()
    try:
        for _ in range(MAX_MEMBERS):
            part = zlib.decompressobj(-zlib.MAX_WBITS if bare else _ANY_HEADER)
            unpacked += part.decompress(content, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise too_large(limit)
            if not part.eof:
                raise Problem(MALFORMED, "The body cannot be unpacked to its end.")
            content = part.unused_data
            if not content:
                return bytes(unpacked)
    except zlib.error:
        raise Problem(MALFORMED, f"The body is not in {coding}.") from None
    raise Problem(MALFORMED, f"The body must have at most {MAX_MEMBERS} gzip members.")


def too_large(limit: int) -> Problem:
    """Return the problem of a body over its limit of bytes."""
    return Problem(TOO_LARGE, f"The body must have at most {limit} bytes.")


def _once(pairs: Sequence[tuple[str, object]]) -> None:
    """Raise Problem when a key of an object is there twice."""
    if len(dict(pairs)) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise Problem(MALFORMED, f'The key "{twice[:MAX_KEY_CHARS]}" is there more than once.')
