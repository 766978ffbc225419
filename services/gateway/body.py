"""Pure: reading a body of JSON. Unknown fields are refused, and no mistake repeats a value.

A body of a few megabytes can hold millions of values, each of which could be a mistake of its own:
values are counted before they are made, and the first wrong item ends a list (issue 10, A2).
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from services.gateway import wording
from services.gateway.problem import INVALID, MALFORMED, TOO_LARGE, Problem
from services.gateway.wording import MAX_KEY_CHARS
from shared.body import check_size

SMALL = 16 * 1024  # bytes: a body of a few short fields
MAX_FIELDS = 50  # of one object; no model has as many


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the gateway gives everything it accepts: an id and the time."""

    id: str
    at: datetime


class Strict(BaseModel):
    """An object from outside: a field that the model does not name is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"must have at most {MAX_FIELDS} fields")
        return value


class Body(Strict):
    """A request body."""

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
        # this program take the other. Only this parser tells of both.
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise Problem(MALFORMED, "The body is not JSON in UTF-8.") from None
    return value


def _once(pairs: Sequence[tuple[str, object]]) -> None:
    """Raise Problem when a key of an object is there twice."""
    if len(dict(pairs)) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise Problem(MALFORMED, f'The key "{twice[:MAX_KEY_CHARS]}" is there more than once.')
