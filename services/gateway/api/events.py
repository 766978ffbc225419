"""Events: the outcomes of mails that were sent another way, reported one by one or in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import ConfigDict, Field

from services.gateway.api import body
from services.gateway.api.body import RFC3339_TIME, RequestBody, StrictModel
from services.gateway.api.domains import read_domain
from services.gateway.api.openapi import Operation, Success
from services.gateway.api.problem import INVALID, KEY_REUSED, TOO_LARGE, Problem, invalid
from services.gateway.api.request import CLIENT, JSON, SUBJECT, RequestReader
from services.gateway.api.response import Accepted, ResponseBody, accepted, respond
from services.gateway.clients import idempotency
from services.gateway.clients.idempotency import RequestStamp
from shared.broker import Broker
from shared.contracts import FeedbackReported, Kind, Sighting
from shared.contracts.clients import Scope
from shared.contracts.domains import MAX_SIGHTINGS
from shared.contracts.fields import Moment

NDJSON = "application/x-ndjson"
MAX_BYTES = 2 * 1024 * 1024  # MAX_SIGHTINGS of 2 kB, four times the longest event
MAX_CLOCK_AHEAD = timedelta(minutes=5)  # of a client


class NewEvent(Sighting, StrictModel):
    """The outcome of one mail for one recipient; the gateway adds a missing `id` and `at`."""

    model_config = ConfigDict(json_schema_extra={"required": ["domain", "kind"]})

    at: Annotated[Moment, RFC3339_TIME] = Field(description="When it happened")


class NewEvents(RequestBody):
    """Up to a thousand events; also read as the bare list, or as a line of NDJSON for each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"domain": "mail.example", "kind": "bounced", "id": "e1"}]}]
        }
    )
    max_bytes = MAX_BYTES

    events: list[NewEvent] = Field(min_length=1, max_length=MAX_SIGHTINGS)


class EventMistake(ResponseBody):
    """One mistake in an event."""

    pointer: str = Field(description="Where: a JSON Pointer into the event, such as #/domain")
    detail: str


class EventAnswer(ResponseBody):
    """Whether one of the events is accepted."""

    status: Literal["accepted", "refused"]
    id: str | None = Field(None, description="Of an accepted event")
    errors: list[EventMistake] | None = Field(None, description="Of a refused one")


class EventsAnswer(ResponseBody):
    """Which of the events are accepted; the broker has stored these."""

    accepted: int
    refused: int
    events: list[EventAnswer] = Field(description="In the order of the request")


def _put(kind: Kind, what: str) -> Operation:
    return Operation(
        f"put{kind.capitalize()}",
        f"PUT /v1/events/{{domain}}/{kind}",
        f"Report that a mail to a domain {what}",
        (Success(202, "The broker has stored it", Accepted),),
        scope=Scope.EVENTS,
        description="With an `Idempotency-Key` it counts once, however often it is sent.",
        repeatable=True,
    )


PUT_DELIVERED = _put(Kind.DELIVERED, "was delivered")
PUT_BOUNCED = _put(Kind.BOUNCED, "bounced: no such mailbox")
POST_EVENTS = Operation(
    "postEvents",
    "POST /v1/events",
    "Report the outcomes of up to a thousand mails",
    (
        Success(202, "The broker has stored all events", EventsAnswer),
        Success(207, "The broker has stored the events without mistakes", EventsAnswer),
    ),
    scope=Scope.EVENTS,
    body=NewEvents,
    other_types=(NDJSON,),
    bare_field="events",
    problems=(KEY_REUSED,),
    description="Each event has an answer, in the order of the request. An event with an `id` "
    "counts once, however often it is sent; so does the whole request with an `Idempotency-Key`.",
    repeatable=True,
)


@dataclass(frozen=True, slots=True)
class EventViews:
    """Publishes events."""

    reader: RequestReader
    broker: Broker

    async def put_delivered(self, request: web.Request) -> web.Response:
        """Publish that a mail to a domain was delivered."""
        return await self._put(request, Kind.DELIVERED)

    async def put_bounced(self, request: web.Request) -> web.Response:
        """Publish that a mail to a domain bounced."""
        return await self._put(request, Kind.BOUNCED)

    async def _put(self, request: web.Request, kind: Kind) -> web.Response:
        """Publish one event; the same key for the same domain and kind is the same event."""
        domain = read_domain(request.match_info["domain"])
        client, stamp = request[CLIENT].id, self.reader.new_stamp()
        key = idempotency.read_key(request.headers.getall(idempotency.HEADER, ()))
        request[SUBJECT] = event_id = idempotency.derived_id(client, key) if key else stamp.id
        event = Sighting.model_construct(id=event_id, domain=domain, kind=kind, at=stamp.at)
        await self.broker.publish(report([event], stamp, client))
        return accepted(event_id)

    async def post(self, request: web.Request) -> web.Response:
        """Publish the events that have no mistakes, and answer each of them."""
        content = await self.reader.read_bytes(request, MAX_BYTES, (JSON, NDJSON))
        media_type = request.content_type
        items = await self.reader.check(content, lambda: split(content, media_type))
        stamp = await self.reader.stamp(request, content)
        read = await self.reader.check(content, lambda: read_events(items, stamp))
        good = [each for each in read if isinstance(each, Sighting)]
        if good:
            await self.broker.publish(report(good, stamp, request[CLIENT].id))
        else:
            await self.reader.forget_key(request, stamp)
        refused = len(read) - len(good)
        answers = [_answer(each) for each in read]
        # A 207 (RFC 4918 11.1): the events differ in their status, which each of them names.
        return respond(
            207 if refused else 202,
            EventsAnswer(accepted=len(good), refused=refused, events=answers),
        )


def split(content: bytes, media_type: str) -> Sequence[Any]:
    """Return the events of a body, unchecked; a Problem for a line that is no JSON.

    Raises Problem.
    """
    items = _lines(content) if media_type == NDJSON else _items(body.parse(content))
    if not items:
        raise Problem(INVALID, "There must be at least one event.")
    if len(items) > MAX_SIGHTINGS:
        raise _too_many()
    return items


def read_events(items: Sequence[object], stamp: RequestStamp) -> Sequence[Sighting | Problem]:
    """Check each event; one without an id gets the id of the request and its index."""
    return [read_event(item, f"{stamp.id}.{index}", stamp) for index, item in enumerate(items)]


def read_event(item: object, default_id: str, stamp: RequestStamp) -> Sighting | Problem:
    """Check one event; the default id and the stamp's time stand in for absent ones.

    One with mistakes does not stop the others.
    """
    if isinstance(item, Problem):
        return item
    if isinstance(item, dict):
        item = {"id": default_id, "at": stamp.at} | item
    event = body.checked_item(NewEvent, item)
    if isinstance(event, Sighting) and event.at > stamp.at + MAX_CLOCK_AHEAD:
        return invalid("#/at", "must not be in the future")
    return event


def report(sightings: Sequence[Sighting], stamp: RequestStamp, client: str) -> FeedbackReported:
    """Return the report of some events, which were checked before."""
    return FeedbackReported.model_construct(
        id=stamp.id, at=stamp.at, client=client, sightings=tuple(sightings)
    )


def _items(value: object) -> Sequence[Any]:
    if isinstance(value, dict) and value.keys() == {"events"}:
        value = value["events"]
    if not isinstance(value, list):
        raise Problem(INVALID, 'The body must be a list, or an object with a list in "events".')
    return value


def _lines(content: bytes) -> Sequence[Any]:
    # Counted before any line is read; as many empty lines may be between them.
    if content.count(b"\n") > 2 * MAX_SIGHTINGS:
        raise _too_many()
    return [_line(line) for line in content.split(b"\n") if line.strip()]


def _line(line: bytes) -> object:
    try:
        return body.parse(line)
    except Problem as error:
        return invalid("#", error.detail or error.type.title)


def _too_many() -> Problem:
    return Problem(TOO_LARGE, f"At most {MAX_SIGHTINGS} events are taken.")


def _answer(event: Sighting | Problem) -> EventAnswer:
    if isinstance(event, Sighting):
        return EventAnswer(status="accepted", id=event.id)
    errors = [EventMistake(pointer=each.pointer, detail=each.detail) for each in event.errors]
    return EventAnswer(status="refused", errors=errors)
