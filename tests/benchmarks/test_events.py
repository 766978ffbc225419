"""The events that benchmarks make up."""

from itertools import islice

import pytest

from benchmarks import events
from services.classifier.rule import Mode
from shared.contracts import FeedbackReported, decode, encode


@pytest.mark.parametrize("mode", list(Mode), ids=str)
def test_they_are_what_anybody_might_send(mode: Mode) -> None:
    """They are made without a check, so they are checked here: on the wire they are contracts."""
    report = events.report(list(islice(events.sightings(domains=7, mode=mode), 500)))
    read = decode(report.routing_key, encode(report))

    assert isinstance(read, FeedbackReported)
    assert read == report
    assert {each.domain for each in read.sightings} == {events.domain(n) for n in range(7)}
    assert len(events.observations(read.sightings)) == 500
