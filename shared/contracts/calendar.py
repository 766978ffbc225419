"""The iCalendar object of a mail: an invitation, its answer or its end (RFC 5545, 5546, 6047)."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

MAX_CALENDAR_CHARS = 256 * 1024  # a meeting has 2,000; larger files are attachments

_LINE_END = re.compile(r"\r\n|\r|\n")
_FOLD = re.compile(r"(?:\r\n|\r|\n)[ \t]")  # RFC 5545 3.1
_METHOD = re.compile(r"METHOD(?:;[^:]*)?:(.*)", re.IGNORECASE)  # RFC 5545 3.7.2
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # RFC 5545 3.1 has no CONTROL but HTAB
_BEGIN, _END = "BEGIN:VCALENDAR", "END:VCALENDAR"


# The purpose of an iCalendar object (RFC 5546 1.4); mail programs show buttons by it.
CalendarMethod = Literal[
    "PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"
]


def _check_calendar(text: str) -> str:
    """Return an iCalendar object as it is. Raises ValueError for anything but one object."""
    if _CONTROL.search(text):
        raise ValueError("must have no control characters but line ends and tabs")
    lines = [line.upper() for line in _LINE_END.split(text.strip())]
    whole = lines[:1] == [_BEGIN] and lines[-1:] == [_END]
    if not whole or lines.count(_BEGIN) > 1 or lines.count(_END) > 1:
        raise ValueError(f"must be one iCalendar object, from {_BEGIN} to {_END}")
    return text


class CalendarObject(BaseModel):
    """An iCalendar object, which a mail program shows as an invitation with its buttons."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    method: CalendarMethod = Field(description="The same as METHOD in the content")
    content: Annotated[
        str,
        StringConstraints(max_length=MAX_CALENDAR_CHARS),
        AfterValidator(_check_calendar),
    ] = Field(repr=False, description="From BEGIN:VCALENDAR to END:VCALENDAR")

    @model_validator(mode="after")
    def _has_its_method(self) -> Self:
        # Outlook shows no buttons where the two differ, and RFC 6047 2.4 wants them equal.
        lines = _LINE_END.split(_FOLD.sub("", self.content))
        found = [method[1] for line in lines if (method := _METHOD.fullmatch(line))]
        if [each.strip().upper() for each in found] != [self.method]:
            raise ValueError(f"must have METHOD:{self.method} in its content, once")
        return self
