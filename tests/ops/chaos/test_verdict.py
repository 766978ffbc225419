"""The counts, the recovery and the promises of a fault."""

import pytest

from ops.chaos.verdict import (
    LATE_SECONDS,
    Bounds,
    Counts,
    Doubt,
    FaultResult,
    LoadItem,
    Recovery,
    count,
    recovery,
    table,
)

FINE = Counts(
    accepted=3, delivered=3, deferred=0, expired=0, lost=0, doubled=0, repeated=0, uncertain=0
)
SOON = Recovery(1.0, 2.0, "mail", "code")
BOUNDS = Bounds(10.0, 60.0)
LAST = ("new after", "all after", "verdict")


def result(
    counts: Counts = FINE, recovered: Recovery = SOON, books: tuple[str, ...] = ()
) -> FaultResult:
    """Return the result of a fault."""
    return FaultResult("kill-otp", 0.0, counts, recovered, BOUNDS, books)


def test_a_mail_without_a_copy_is_lost_unless_the_ledger_knows_better() -> None:
    """SMTP cannot tell of an uncertain mail, and a deferred one waits for its next attempt."""
    counts = count({"a": 0, "b": 0, "c": 1, "d": 0, "e": 0}, Doubt({"b"}, {"d"}, {"e"}))

    assert (counts.accepted, counts.delivered, counts.deferred, counts.expired) == (5, 1, 1, 1)
    assert (counts.lost, counts.uncertain) == (1, 1)


def test_a_copy_too_many_is_allowed_of_an_uncertain_mail() -> None:
    """Another mail that comes twice is a fault."""
    counts = count({"a": 3, "b": 2, "c": 1}, Doubt({"b"}))

    assert (counts.doubled, counts.repeated) == (1, 2)


def test_recovery_is_that_of_the_slowest_flow() -> None:
    """A flow goes on with its first item that was accepted after the fault."""
    items = [
        LoadItem("mail", 99.0, [100.5]),
        LoadItem("mail", 101.0, [101.5]),
        LoadItem("code", 100.0, [103.0, 104.0]),
        LoadItem("code", 102.0, [102.5]),
    ]

    found = recovery(items, since=100.0)

    assert (found.first, found.first_flow) == (2.5, "code")


def test_a_flow_without_a_new_item_never_goes_on() -> None:
    """An item that was accepted and did not arrive is no recovery."""
    items = [LoadItem("mail", 101.0, [101.5]), LoadItem("code", 101.0, [])]

    found = recovery(items, since=100.0)

    assert (found.first, found.first_flow) == (None, "code")


def test_the_backlog_ends_with_the_last_late_item() -> None:
    """An item that arrives at once after the fault is no backlog, and none from before it."""
    items = [
        LoadItem("mail", 10.0, [20.0]),
        LoadItem("mail", 99.0, [99.0 + LATE_SECONDS + 5]),
        LoadItem("mail", 150.0, [150.1]),
    ]

    assert recovery(items, since=100.0).backlog == LATE_SECONDS + 4


def test_without_late_items_there_is_no_backlog() -> None:
    """The recovery of a fault that nothing waited for is 0."""
    assert recovery([LoadItem("mail", 150.0, [150.1])], since=100.0).backlog == 0.0


def test_a_kept_promise_has_no_complaint() -> None:
    """The limits belong to what is allowed."""
    assert result().complaints == []
    assert result(recovered=Recovery(10.0, 60.0)).complaints == []


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (result(Counts(3, 2, 0, 0, 1, 0, 0, 0)), "1 lost"),
        (result(Counts(3, 3, 0, 0, 0, 0, 2, 0)), "2 doubled without need"),
        (result(recovered=Recovery(None, 0.0, "code")), "no new code"),
        (result(recovered=Recovery(10.1, 0.0, "code")), "new code after more than 10 s"),
        (result(recovered=Recovery(1.0, 60.1, "", "mail")), "all mail after more than 60 s"),
        (result(books=("lost: 1",)), "the books do not add up"),
    ],
)
def test_each_broken_promise_is_a_complaint(broken: FaultResult, complaint: str) -> None:
    """The table names it."""
    assert broken.complaints == [complaint]
    assert table([broken]).splitlines()[-1].endswith(complaint)


def test_a_double_that_smtp_cannot_tell_is_no_complaint() -> None:
    """It stands in the table all the same."""
    doubled = result(Counts(1000, 999, 1, 0, 0, 2, 0, 3))

    head, row = ([*filter(None, line.split("  "))] for line in table([doubled]).splitlines())
    assert [*map(str.strip, head)][4:] == [
        "deferred",
        "expired",
        "lost",
        "doubled",
        "uncertain",
        *LAST,
    ]
    assert [*map(str.strip, row)][4:] == ["1", "0", "0", "2", "3", "1.0 s mail", "2.0 s code", "ok"]
