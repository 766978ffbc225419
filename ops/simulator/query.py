"""The query parameters of the API: each is honoured or refused."""

import re
from typing import Annotated, Final, TypeVar

from multidict import MultiMapping
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from ops.simulator.problem import ProblemError

LIMIT: Final = 100  # messages in one answer, if not asked for another number
MAX_LIMIT: Final = 1000

_ID: Final = re.compile(r"\d{8}T\d{6}-\d{6,}", re.ASCII)


def _checked_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise PydanticCustomError("id", "It must be the id of a mail")
    return text


_Text = Annotated[str, Field(min_length=1, max_length=1000)]
_Id = Annotated[_Text, AfterValidator(_checked_id)]


class NoQuery(BaseModel):
    """No parameter at all."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Selection(NoQuery):
    """Which messages: those that fit all that is given, without regard to case.

    `to` is a recipient of the envelope, `recipient` a part of one; `search` is a part of a
    recipient, the sender, the subject or the text.
    """

    to: _Text | None = None
    recipient: _Text | None = None
    search: _Text | None = None


class Listing(Selection):
    """Which page of them: `limit` messages, of those older than the message `before`."""

    before: _Id | None = None
    limit: int = Field(default=LIMIT, ge=1, le=MAX_LIMIT)
    brief: bool = False


Q = TypeVar("Q", bound=NoQuery)


def read(model: type[Q], query: MultiMapping[str]) -> Q:
    """Read the parameters. Raises a 400 ProblemError that names the first wrong one."""
    for name in query:
        if len(query.getall(name)) > 1:
            raise ProblemError(400, f"bad-{name}", f"The parameter {name} is given twice.")
    try:
        return model.model_validate(dict(query))
    except ValidationError as error:
        raise _refusal(error, model) from None


def _refusal(error: ValidationError, model: type[BaseModel]) -> ProblemError:
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(wrong["loc"][0])
    if wrong["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) or "none"
        detail = f"There is no parameter {name} here. Known: {known}."
        return ProblemError(400, "unknown-parameter", detail, parameter=name)
    detail = f"The parameter {name} is wrong. {wrong['msg']}."
    return ProblemError(400, f"bad-{name}", detail, parameter=name)
