"""iCalendar objects: their method and their form."""

from typing import get_args

import pytest
from pydantic import ValidationError

from shared.contracts.calendar import MAX_CALENDAR_CHARS, CalendarMethod, CalendarObject

INVITATION = """\
BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//postrider.example//EN\r
METHOD:REQUEST\r
BEGIN:VEVENT\r
UID:4711@postrider.example\r
SUMMARY:Grüße\r
END:VEVENT\r
END:VCALENDAR\r
"""


def a_calendar(content: str, method: str = "REQUEST") -> CalendarObject:
    """Return an iCalendar object as it is read."""
    return CalendarObject.model_validate({"method": method, "content": content})


@pytest.mark.parametrize("method", get_args(CalendarMethod))
def test_each_method_of_the_standard_is_taken(method: str) -> None:
    """An object may have any method of RFC 5546, and is kept as it is."""
    content = INVITATION.replace("REQUEST", method)

    assert a_calendar(content, method).content == content


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("METHOD:REQUEST\r", "method:request\r"),
        ("METHOD:REQUEST\r", "METHOD;X-A=1:REQUEST\r"),
        ("METHOD:REQUEST\r", "METH\r\n OD:REQ\r\n\tUEST\r"),
        ("\r\n", "\n"),
        ("BEGIN:VCALENDAR", "\r\nbegin:vcalendar"),
        ("Grüße", "a\u2028METHOD:CANCEL"),
        ("Grüße", "a\r\n METHOD:CANCEL"),
    ],
    ids=["lower case", "parameter", "folded", "line feeds", "outer", "separator", "inside"],
)
def test_the_method_is_found_as_a_mail_program_finds_it(line: str, other: str) -> None:
    """Case, folds and line ends of any kind change nothing."""
    assert a_calendar(INVITATION.replace(line, other)).method == "REQUEST"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (INVITATION.replace("REQUEST", "CANCEL"), "must have METHOD:REQUEST"),
        (INVITATION.replace("METHOD:REQUEST\r\n", ""), "must have METHOD:REQUEST"),
        (INVITATION.replace("UID", "METHOD:CANCEL\r\nUID"), "must have METHOD:REQUEST"),
        (INVITATION.replace("UID", "METHOD:REQUEST\r\nUID"), "must have METHOD:REQUEST"),
        (INVITATION.replace("END:VCALENDAR", ""), "must be one iCalendar object"),
        (INVITATION.replace("BEGIN:VCALENDAR", "BEGIN:VEVENT"), "must be one iCalendar object"),
        (INVITATION + INVITATION, "must be one iCalendar object"),
        ("", "must be one iCalendar object"),
        (INVITATION.replace("4711", "\0"), "must have no control characters"),
        (INVITATION.replace("4711", "\x1b"), "must have no control characters"),
        (INVITATION.replace("4711", "x" * MAX_CALENDAR_CHARS), "at most 262144 characters"),
    ],
)
def test_an_object_of_another_method_or_form_is_refused(content: str, reason: str) -> None:
    """An object that no mail program shows as an invitation is refused, without its content."""
    with pytest.raises(ValidationError, match=reason) as caught:
        a_calendar(content)
    assert "4711" not in str(caught.value)
