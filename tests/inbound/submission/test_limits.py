"""Tests of how often something may happen, and how much there may be at once."""

from services.inbound.submission import limits
from services.inbound.submission.limits import LeakyBuckets, MailBudget


def test_bucket() -> None:
    """A bucket takes its size at once, and then one each time that one has leaked."""
    buckets = LeakyBuckets(3, 10.0)
    for _ in range(3):
        assert buckets.wait("a", 0.0) == 0
        buckets.add("a", 0.0)

    assert buckets.wait("a", 0.0) == 10
    assert buckets.wait("a", 10.0) == 0
    assert buckets.wait("b", 0.0) == 0


def test_an_empty_bucket_has_room_at_any_time() -> None:
    """Times are fractions, and rounding them refuses no first drop."""
    for number in range(1000):
        assert LeakyBuckets(1, 1000.0).wait("a", number * 13.77) == 0


def test_overflow() -> None:
    """A full bucket does not get fuller."""
    buckets = LeakyBuckets(2, 10.0)
    for _ in range(100):
        buckets.add("a", 0.0)

    assert buckets.wait("a", 0.0) == 10


def test_names() -> None:
    """Names of a guesser's invention take a bounded memory."""
    buckets = LeakyBuckets(1, 10.0)
    for number in range(limits.MAX_NAMES + 1):
        buckets.add(str(number), 0.0)

    assert buckets.wait("0", 0.0) == 0
    assert buckets.wait("1", 0.0) == 10


def test_budget() -> None:
    """A mail's part is bounded, and free again at its end; a refusal says which bound it was."""
    budget = MailBudget(100)
    with budget.taking(80) as one, budget.taking(80) as other, budget.taking(80) as third:
        one.add(b"a" * 79)
        one.add(b"b")
        other.add(b"c" * 21)
        third.add(b"d" * 20)
        assert (one.octets, one.is_full) == (b"a" * 79 + b"b", False)
        assert (other.octets, other.is_full) == (None, False)
        one.add(b"e")
        one.add(b"")
        assert (one.octets, one.is_full) == (None, True)
        assert third.octets == b"d" * 20

    assert budget.left == 100
