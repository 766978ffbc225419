"""Adding up."""

from services.classifier.tally import Tally
from shared.contracts import ReplyClass
from tests.classifier.observations import observation


def test_sums() -> None:
    """Deliveries, bounces and refusals are kept apart, for each domain."""
    tally = Tally.of(
        [
            observation(1),
            observation(2, "bounced"),
            observation(3, ReplyClass.POLICY),
            observation(4, ReplyClass.UNDETERMINED),
            observation(5, domain="b.example"),
        ]
    )
    first = tally.domains["a.example"]

    assert (first.delivered, first.bounced, first.refused, first.undetermined) == (1, 1, 2, 1)
    assert first.events == 4
    assert tally.domains["b.example"].delivered == 1
    assert tally.refusals == {("a.example", "policy"): 1, ("a.example", "undetermined"): 1}


def test_a_key_counts_once() -> None:
    """A copy in the same batch, and one that was counted before, count nothing."""
    events = [observation(1), observation(1), observation(2), observation(3)]

    assert Tally.of(events).domains["a.example"].delivered == 3
    assert Tally.of(events, known={"key-2", "key-3"}).domains["a.example"].delivered == 1


def test_times_of_copies_count() -> None:
    """The first and last time do not depend on which of two copies came first."""
    first, last = observation(1), observation(1)._replace(at=observation(9).at)
    sums = [
        Tally.of(events, known={"key-1"}).domains["a.example"]
        for events in ([first, last], [last, first])
    ]

    assert [(each.first, each.last, each.key) for each in sums] == [(first.at, last.at, None)] * 2
