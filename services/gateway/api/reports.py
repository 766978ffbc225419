"""Pure: what clients report of mails that went another way, one event or a thousand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from services.gateway.api import body, wording
from services.gateway.api.body import RequestBody, RequestStamp, StrictModel
from services.gateway.api.problem import INVALID, TOO_LARGE, Mistake, Problem
from shared.contracts import FeedbackReported, Sighting
from shared.contracts.domains import MAX_SIGHTINGS

NDJSON = "application/x-ndjson"
MOST = 2 * 1024 * 1024  # bytes: MAX_SIGHTINGS of 2 kB, four times what the longest can need
MAX_EVENT_MISTAKES = 5  # of one event; one answer has a thousand of them
AHEAD = timedelta(minutes=5)  # that a client's clock may be


class NewEvent(Sighting, StrictModel):
    """What became of one mail for one recipient; without `id` and `at` it gets them here."""

    model_config = ConfigDict(json_schema_extra={"required": ["domain", "kind"]})


class NewEvents(RequestBody):
    """Up to a thousand events; also taken is the bare list, or a line of NDJSON for each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"domain": "mail.example", "kind": "bounced", "id": "e1"}]}]
        }
    )
    most = MOST

    events: list[NewEvent] = Field(min_length=1, max_length=MAX_SIGHTINGS)


@dataclass(frozen=True, slots=True)
class EventRefusal:
    """An event that is not taken, and why; it does not stop the others."""

    mistakes: Sequence[Mistake]


def items(content: bytes, content_type: str) -> Sequence[Any]:
    """Return the events of a body, each as it came; Refused for a line that cannot be read.

    Raises Problem.
    """
    found = _lines(content) if content_type == NDJSON else _listed(body.parse(content))
    if not found:
        raise Problem(INVALID, "There must be at least one event.")
    if len(found) > MAX_SIGHTINGS:
        raise _too_many()
    return found


def read_all(items: Sequence[object], stamp: RequestStamp) -> Sequence[Sighting | EventRefusal]:
    """Read each event; one without an id of its own gets that of the request and its place."""
    return [read(item, f"{stamp.id}.{at}", stamp) for at, item in enumerate(items)]


def read(item: object, default_id: str, stamp: RequestStamp) -> Sighting | EventRefusal:
    """Read one event; without an id or a time of its own it gets what it is given."""
    if isinstance(item, EventRefusal):
        return item
    if isinstance(item, dict):
        item = {"id": default_id, "at": stamp.at} | item
    try:
        event = NewEvent.model_validate(item)
    except ValidationError as error:
        return EventRefusal(wording.mistakes(error, MAX_EVENT_MISTAKES))
    if event.at > stamp.at + AHEAD:
        return EventRefusal([Mistake("#/at", "must not be in the future")])
    return event


def report(sightings: Sequence[Sighting], stamp: RequestStamp, client: str) -> FeedbackReported:
    """Give the event that tells of all of them; they were checked."""
    return FeedbackReported.model_construct(
        id=stamp.id, at=stamp.at, client=client, sightings=tuple(sightings)
    )


def _listed(value: object) -> Sequence[Any]:
    if isinstance(value, dict) and value.keys() == {"events"}:
        value = value["events"]
    if not isinstance(value, list):
        raise Problem(INVALID, 'The body must be a list, or an object with a list in "events".')
    return value


def _lines(content: bytes) -> Sequence[Any]:
    # Before any of them is read; as many empty lines may be between them.
    if content.count(b"\n") > 2 * MAX_SIGHTINGS:
        raise _too_many()
    return [_line(line) for line in content.split(b"\n") if line.strip()]


def _line(line: bytes) -> object:
    try:
        return body.parse(line)
    except Problem as error:
        return EventRefusal([Mistake("#", error.detail or error.kind.title)])


def _too_many() -> Problem:
    return Problem(TOO_LARGE, f"At most {MAX_SIGHTINGS} events are taken.")
