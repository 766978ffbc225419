"""Pure: reading a body of JSON. Unknown fields are refused, and no mistake repeats a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from services.gateway.problem import INVALID, MALFORMED, Mistake, Problem

SMALL = 16 * 1024  # bytes: a body of a few short fields
MAX_MISTAKES = 20  # told in one answer
MAX_KEY_CHARS = 100  # of an unknown field's name, which is the client's text

# In place of pydantic's words, where those would puzzle a caller of an HTTP API.
_DETAILS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "tuple_type": "must be a string or a list of strings",
    "model_type": "must be a JSON object",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the gateway gives everything it accepts: an id and the time."""

    id: str
    at: datetime


class Body(BaseModel):
    """A request body: what is not a field of it is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    most: ClassVar[int | None] = SMALL  # bytes; None for what the settings say


B = TypeVar("B", bound=Body)


def read(model: type[B], body: bytes) -> B:
    """Read a body. Raises Problem, whose text never repeats a value."""
    value = parse(body)
    if not isinstance(value, dict):
        raise Problem(MALFORMED, "The body is not a JSON object.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(INVALID, errors=mistakes(error)) from None


def parse(body: bytes) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """Read JSON: strict UTF-8, no NaN, no lone surrogate, at most some 1000 deep.

    Raises Problem.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(MALFORMED, "The body is not JSON in UTF-8.") from None


def mistakes(error: ValidationError) -> Sequence[Mistake]:
    """Tell what is wrong, field by field, without the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [Mistake(_pointer(each["loc"]), _detail(each)) for each in found[:MAX_MISTAKES]]


def _pointer(place: Sequence[str | int]) -> str:
    """Give a JSON Pointer in its form as a URI fragment (RFC 6901 3 and 6)."""
    parts = (str(part)[:MAX_KEY_CHARS].replace("~", "~0").replace("/", "~1") for part in place)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in parts)


def _detail(mistake: ErrorDetails) -> str:
    return _DETAILS.get(mistake["type"]) or mistake["msg"].removeprefix("Value error, ")
