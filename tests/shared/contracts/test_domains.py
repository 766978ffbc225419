"""Reports about a domain."""

import json

import pytest
from pydantic import ValidationError

from shared.contracts import FeedbackReported, Kind, Sighting, decode
from shared.contracts.domains import MAX_SIGHTINGS
from shared.errors import Undecodable
from tests.shared.golden.ledger_examples import AT


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"domain": "localhost"}, "sightings.0.domain: "),
        ({"recipient": "ann@other.example"}, "sightings.0.recipient: must be an address at the"),
        ({"recipient": "ann"}, "sightings.0.recipient: "),
        ({"kind": "deferred"}, "sightings.0.kind: "),
        ({"at": "2026-11-21T12:30:15"}, "sightings.0.at: "),
        ({"id": ""}, "sightings.0.id: "),
    ],
)
def test_a_sighting_that_cannot_be(change: dict[str, str], reason: str) -> None:
    """A mistake in one of many entries is reported with its place."""
    sighting = {"id": "1", "domain": "example.org", "kind": "bounced", "at": AT.isoformat()}
    report = {"id": "r1", "at": AT.isoformat(), "sightings": [sighting | change]}

    with pytest.raises(Undecodable, match=reason):
        decode("feedback.reported", json.dumps(report).encode())


def test_a_sighting_is_canonical() -> None:
    """A recipient and its domain belong together in any spelling."""
    sighting = Sighting(
        id="1", domain="Bücher.example.", kind=Kind.BOUNCED, at=AT, recipient="a@BÜCHER.example"
    )

    assert sighting.domain == "xn--bcher-kva.example"
    assert sighting.recipient == "a@xn--bcher-kva.example"


@pytest.mark.parametrize("count", [0, MAX_SIGHTINGS + 1])
def test_a_report_has_a_size(count: int) -> None:
    """A report is not empty, and its size is limited."""
    sighting = Sighting(id="1", domain="example.org", kind=Kind.DELIVERED, at=AT)

    with pytest.raises(ValidationError, match="sightings"):
        FeedbackReported(id="r1", at=AT, sightings=(sighting,) * count)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"])
def test_a_fact_has_a_time_that_can_be_kept(time: str) -> None:
    """A domain's first event is not in the year 1, and no other zone's time overflows."""
    raw = {"id": "e1", "at": time, "domain": "example.org", "status": "unknown"}

    with pytest.raises(Undecodable, match=r"^at: "):
        decode("domain.classified", json.dumps(raw).encode())
