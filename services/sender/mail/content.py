"""Pure: the text and HTML of a mail, which may have crossed the broker sealed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from shared.contracts import SendEmail

Opener = Callable[[str, str], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """What the recipient reads: a text, an HTML form, or both."""

    text: str | None = None
    html: str | None = None


class _Sealed(BaseModel):
    """The same as it crosses the broker in a seal, where nobody could check it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    text: str | None = None
    html: str | None = None

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.text is None and self.html is None:
            raise ValueError("must have a text or an html part")
        return self


def content_of(command: SendEmail, opener: Opener) -> Content:
    """Give the content of `command`; `opener` opens a seal in the context of the command's id.

    Raises ValueError, without the content, when the seal does not open or holds something else.
    """
    if command.sealed is None:
        return Content(command.text, command.html)
    opened = _Sealed.model_validate_json(opener(command.sealed, command.id))
    return Content(opened.text, opened.html)
