"""From events over HTTP to reports."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api import reports
from services.gateway.api.body import RequestStamp
from services.gateway.api.reports import EventRefusal
from shared import contracts
from shared.contracts import Sighting

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STAMP = RequestStamp("r1", NOW)
GOOD = {"domain": "one.example", "kind": "bounced"}


def test_an_event_gets_the_id_and_time_it_does_not_have() -> None:
    """Its own are kept."""
    bare = reports.read(GOOD, "r1.0", STAMP)
    own = reports.read(GOOD | {"id": "e1", "at": "2026-10-31T23:00:00+01:00"}, "r1.1", STAMP)

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
    """And tells no value."""
    found = reports.read(GOOD | fields, "r1.0", STAMP)

    assert isinstance(found, EventRefusal)
    assert [each.pointer for each in found.mistakes] == [pointer]


@given(
    domain=st.sampled_from(["one.example", "B\u00fccher.example", "ONE.example.", "localhost"]),
    kind=st.sampled_from(["delivered", "bounced", "opened"]),
    recipient=st.sampled_from([None, "a@one.example", "a@xn--bcher-kva.example"]),
    email_id=st.sampled_from([None, "m1", "-"]),
)
def test_what_is_accepted_can_be_read_by_the_classifier(**fields: str | None) -> None:
    """The contract's own rules agree to everything that these rules let by."""
    found = reports.read(fields, "r1.0", STAMP)
    if isinstance(found, Sighting):
        made = reports.report([found], STAMP, "shop")
        wire = contracts.encode(made)
        assert contracts.encode(contracts.decode(made.routing_key, wire)) == wire
