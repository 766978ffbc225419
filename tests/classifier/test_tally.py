"""Adding up."""

from services.classifier.tally import DELIVERED, FIRST, LAST, PIECE, Tally, events
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

    assert first[DELIVERED:] == [1, 1, 2, 1, 0]
    assert events(first) == 4
    assert tally.domains["b.example"][DELIVERED:] == [1, 0, 0, 0, 0]
    assert (tally.delivered, tally.bounced) == (2, 1)
    assert tally.refusals == {("a.example", "policy"): 1, ("a.example", "undetermined"): 1}


def test_a_key_counts_once() -> None:
    """A copy in the same batch, and one that was counted before, count nothing."""
    some = [observation(1), observation(1), observation(2), observation(3)]

    assert Tally.of(some).delivered == 3
    assert Tally.of(some, known={"key-2", "key-3"}).delivered == 1


def test_times_of_copies_count() -> None:
    """The first and last time do not depend on which of two copies came first."""
    first, last = observation(1), observation(1)._replace(at=observation(9).at)
    tallies = [Tally.of(some, known={"key-1"}) for some in ([first, last], [last, first])]
    sums = [tally.domains["a.example"] for tally in tallies]

    assert [(each[FIRST], each[LAST]) for each in sums] == [(first.at, last.at)] * 2
    assert [(tally.delivered, tally.events) for tally in tallies] == [(0, {})] * 2


def test_all_is_let_go_of() -> None:
    """Piece by piece, so that nobody waits for the end of it."""
    tally = Tally.of([observation(n, domain=f"d{n}.example") for n in range(2 * PIECE + 1)])
    pieces = sum(1 for _ in tally.clear())

    assert pieces == 3
    assert [*tally.observations, *tally.domains, *tally.keys, *tally.names] == []
