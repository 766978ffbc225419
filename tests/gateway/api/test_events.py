"""Events over HTTP, on a real broker."""

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api import events
from services.gateway.api.problem import Problem
from services.gateway.clients.idempotency import RequestStamp
from shared import contracts, topology
from shared.contracts import FeedbackReported, Sighting
from tests.gateway.api_client import ApiClient, ApiResponse
from tests.tap import Tap, tapped
from tests.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STAMP = RequestStamp("r1", NOW)
GOOD = {"domain": "one.example", "kind": "delivered"}
KEY = {"Idempotency-Key": "day-17"}
LINES = {"Content-Type": "application/x-ndjson"}


async def reported(tap: Tap, count: int = 1) -> list[FeedbackReported]:
    """Return the next reports."""
    found = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(count):
            arrived = await tap.next()
            message = contracts.decode(arrived.type or "", arrived.body)
            assert isinstance(message, FeedbackReported)
            found.append(message)
    return found


def domains_and_kinds(sightings: Sequence[Sighting]) -> list[tuple[str, str]]:
    """Return domain and kind of each event."""
    return [(each.domain, each.kind.value) for each in sightings]


def statuses(answer: ApiResponse) -> list[str]:
    """Return the status of each event."""
    return [each["status"] for each in answer.json["events"]]


async def test_an_event_is_published(api: ApiClient, vhost: str) -> None:
    """An event is published with its domain in canonical form and an id of its own."""
    async with tapped(vhost, topology.EVENTS) as tap:
        answers = [
            await api.call("PUT", f"/v1/events/B%C3%9Ccher.example/{kind}")
            for kind in ("delivered", "delivered", "bounced")
        ]
        reports = await reported(tap, 3)

    assert [answer.status for answer in answers] == [202] * 3
    assert [domains_and_kinds(report.sightings) for report in reports] == [
        [("xn--bcher-kva.example", "delivered")],
        [("xn--bcher-kva.example", "delivered")],
        [("xn--bcher-kva.example", "bounced")],
    ]
    ids = [report.sightings[0].id for report in reports]
    assert [answer.json["id"] for answer in answers] == ids
    assert len(set(ids)) == 3
    assert {report.client for report in reports} == {"shop"}


async def test_an_event_sent_again_with_its_key_is_the_same_event(
    api: ApiClient, vhost: str
) -> None:
    """An event sent again with its key has the same id; another client's key makes another."""
    bank = await api.registered("bank")
    async with tapped(vhost, topology.EVENTS) as tap:
        for caller in (api, api, bank):
            await caller.call("PUT", "/v1/events/one.example/delivered", headers=KEY)
        ids = [report.sightings[0].id for report in await reported(tap, 3)]

    assert ids[0] == ids[1] != ids[2]


async def test_many_events_are_one_report(api: ApiClient, vhost: str) -> None:
    """A list, an object with a list, and lines of JSON make the same report."""
    items: list[dict[str, Any]] = [GOOD, {"domain": "Two.Example.", "kind": "bounced", "id": "e2"}]
    async with tapped(vhost, topology.EVENTS) as tap:
        lines = b"\n".join(map(orjson.dumps, items)) + b"\n\n"
        answers = [
            await api.post("/v1/events", items),
            await api.post("/v1/events", {"events": items}),
            await api.call("POST", "/v1/events", data=lines, headers=LINES),
        ]
        reports = await reported(tap, 3)

    for answer, report in zip(answers, reports, strict=True):
        assert answer.status == 202
        assert (answer.json["accepted"], answer.json["refused"]) == (2, 0)
        assert domains_and_kinds(report.sightings) == [
            ("one.example", "delivered"),
            ("two.example", "bounced"),
        ]
        assert [each["id"] for each in answer.json["events"]] == [
            each.id for each in report.sightings
        ]
        assert report.sightings[1].id == "e2"


async def test_bad_events_do_not_stop_good_ones(api: ApiClient, vhost: str) -> None:
    """Bad events are answered with their mistakes; the good ones are published."""
    items = [{"domain": "localhost", "kind": "delivered"}, GOOD, GOOD | {"kind": "opened"}, 7]
    lines = b"\n".join([*map(orjson.dumps, items), b"{", b"\xff"])
    async with tapped(vhost, topology.EVENTS) as tap:
        listed = await api.post("/v1/events", items)
        lined = await api.call("POST", "/v1/events", data=lines, headers=LINES)
        reports = await reported(tap, 2)

    assert (listed.status, lined.status) == (207, 207)
    assert statuses(listed) == ["refused", "accepted", "refused", "refused"]
    assert statuses(lined) == [*statuses(listed), "refused", "refused"]
    pointers = [each.get("errors", [{}])[0].get("pointer") for each in listed.json["events"]]
    assert pointers == ["#/domain", None, "#/kind", "#"]
    assert [domains_and_kinds(report.sightings) for report in reports] == [
        [("one.example", "delivered")]
    ] * 2


async def test_a_request_sent_again_with_its_key_has_the_same_events(
    api: ApiClient, vhost: str
) -> None:
    """A request sent again with its key publishes the same events, each with the same id."""
    async with tapped(vhost, topology.EVENTS) as tap:
        answers = [await api.post("/v1/events", [GOOD, GOOD], KEY) for _ in range(2)]
        first, second = await reported(tap, 2)
    other = await api.post("/v1/events", [GOOD], KEY)

    assert answers[0].content == answers[1].content
    assert first == second
    assert len({each.id for each in first.sightings}) == 2
    assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")


async def test_a_key_whose_events_were_all_refused_is_free(api: ApiClient, vhost: str) -> None:
    """Events without a good one can be corrected, and sent again with the same key."""
    refused = await api.post("/v1/events", [{"domain": "one.example"}], KEY)
    async with tapped(vhost, topology.EVENTS) as tap:
        corrected = await api.post("/v1/events", [GOOD], KEY)
        await reported(tap, 1)

    assert (refused.status, statuses(refused)) == (207, ["refused"])
    assert (corrected.status, statuses(corrected)) == (202, ["accepted"])


async def test_a_body_without_events_is_refused_as_a_whole(api: ApiClient) -> None:
    """A body that is no list of events is refused as a whole, with a status for each cause."""
    for kind, body, expected in (
        ("text/plain", b"[]", (415, "unsupported-media-type")),
        ("application/json", b"[", (400, "malformed")),
        ("application/json", b"[]", (422, "invalid")),
        ("application/json", b"{}", (422, "invalid")),
        ("application/json", b'{"events": [], "more": 1}', (422, "invalid")),
        ("application/x-ndjson", b"\n", (422, "invalid")),
        ("application/json", orjson.dumps([GOOD] * 1001), (413, "too-large")),
        ("application/json", b" " * (2 * 1024 * 1024 + 1), (413, "too-large")),
    ):
        answer = await api.call(
            "POST", "/v1/events", data=io.BytesIO(body), headers={"Content-Type": kind}
        )

        assert (answer.status, answer.json["code"]) == expected, body[:20]


async def test_a_thousand_events_are_taken(api: ApiClient, vhost: str) -> None:
    """A request may have a thousand events."""
    async with tapped(vhost, topology.EVENTS) as tap:
        answer = await api.post("/v1/events", [GOOD] * 1000)
        [report] = await reported(tap)

    assert (answer.status, answer.json["accepted"]) == (202, 1000)
    assert len({each.id for each in report.sightings}) == 1000


def test_an_event_gets_the_id_and_time_it_does_not_have() -> None:
    """An event without an id or a time gets them; an event with its own keeps them."""
    bare = events.read_event(GOOD, "r1.0", STAMP)
    own = events.read_event(GOOD | {"id": "e1", "at": "2026-10-31T23:00:00+01:00"}, "r1.1", STAMP)

    assert isinstance(bare, Sighting)
    assert isinstance(own, Sighting)
    assert (bare.id, bare.at) == ("r1.0", NOW)
    assert (own.id, own.at) == ("e1", datetime(2026, 10, 31, 22, tzinfo=UTC))


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"domain": None}, "#/domain"),
        ({"domain": "[192.0.2.1]"}, "#/domain"),
        ({"kind": "opened"}, "#/kind"),
        ({"id": ""}, "#/id"),
        ({"id": "a b"}, "#/id"),
        ({"at": "yesterday"}, "#/at"),
        ({"at": "2026-10-31T23:00:00"}, "#/at"),
        ({"at": (NOW + timedelta(minutes=6)).isoformat()}, "#/at"),
        ({"recipient": "a@two.example"}, "#/recipient"),
        ({"recipient": "a"}, "#/recipient"),
        ({"email_id": "a b"}, "#/email_id"),
        ({"count": 2}, "#/count"),
    ],
)
def test_each_mistake_of_an_event_has_its_place(fields: dict[str, object], pointer: str) -> None:
    """A mistake in an event is named by its place."""
    found = events.read_event(GOOD | fields, "r1.0", STAMP)

    assert isinstance(found, Problem)
    assert [each.pointer for each in found.errors] == [pointer]


@given(
    domain=st.sampled_from(["one.example", "B\u00fccher.example", "ONE.example.", "localhost"]),
    kind=st.sampled_from(["delivered", "bounced", "opened"]),
    recipient=st.sampled_from([None, "a@one.example", "a@xn--bcher-kva.example"]),
    email_id=st.sampled_from([None, "m1", "-"]),
)
def test_an_accepted_event_can_be_read_by_the_classifier(**fields: str | None) -> None:
    """The contract accepts every report that the schema makes."""
    found = events.read_event(fields, "r1.0", STAMP)
    if isinstance(found, Sighting):
        made = events.report([found], STAMP, "shop")
        wire = contracts.encode(made)
        assert contracts.encode(contracts.decode(made.routing_key, wire)) == wire
