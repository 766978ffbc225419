"""Mails and failures by slots of time: never more than a limit in its time, and when it ends."""

from hypothesis import given
from hypothesis import strategies as st

from services.otp import tally as slots
from services.otp.limits import DAY, HOUR, Limit
from services.otp.tally import MINUTE, WindowCounter

NOW = 1_900_000_000_000 - 1_900_000_000_000 % MINUTE
ANNA = Limit("recipient/anna@example.com", 5, HOUR)


def counted(*minutes: int) -> list[tuple[str, int, int]]:
    """Give one mail in each of these minutes before now."""
    return [(ANNA.subject, NOW // MINUTE - minute, 1) for minute in minutes]


def test_below_a_limit_nobody_waits() -> None:
    """Until the limit is reached there is nothing to wait for."""
    tally = WindowCounter(counted(0, 10, 20, 30), NOW)

    assert tally.wait(ANNA) == 0
    tally.add([ANNA.subject])
    assert tally.wait(ANNA) > 0


def test_the_wait_is_until_the_oldest_leaves() -> None:
    """The next mail may go when the oldest of those in its way is an hour old."""
    assert WindowCounter(counted(0, 10, 20, 30, 40), NOW).wait(ANNA) == 21 * MINUTE
    assert WindowCounter(counted(0, 10, 20, 30, 40), NOW + 30_000).wait(ANNA) == 20.5 * MINUTE
    assert WindowCounter(counted(0, 10, 20, 30, 40, 50), NOW).wait(ANNA) == 21 * MINUTE
    assert WindowCounter([(ANNA.subject, NOW // MINUTE, 9)], NOW).wait(ANNA) == 61 * MINUTE


def test_what_is_old_does_not_count() -> None:
    """A mail counts for as long as its minute overlaps the limit's time."""
    assert WindowCounter(counted(60, 60, 60, 60, 60), NOW).wait(ANNA) == MINUTE
    assert WindowCounter(counted(61, 61, 61, 61, 61), NOW).wait(ANNA) == 0


def test_others_do_not_count() -> None:
    """Each subject is counted for itself."""
    tally = WindowCounter(counted(0, 0, 0, 0, 0), NOW)

    assert tally.wait(Limit("recipient/ben@example.com", 5, HOUR)) == 0


def test_a_clock_put_back_gives_no_mail_back() -> None:
    """What was counted in a minute that is to come counts."""
    assert WindowCounter(counted(-30, -30, -30, -30, -30), NOW).wait(ANNA) == 91 * MINUTE


def test_what_was_added() -> None:
    """Only what was added is to be kept, with the minute that it belongs to."""
    tally = WindowCounter(counted(0, 1), NOW + 59_999)
    tally.add([ANNA.subject, "total"])
    tally.add(["total"])

    assert tally.added == {ANNA.subject: 1, "total": 2}
    assert tally.slot == NOW // MINUTE


def test_taken_by_all_limits_or_none() -> None:
    """What one limit does not let pass is counted for no other."""
    one, two = Limit("client/shop", 2, DAY), Limit("ip/192.0.2.7", 1, DAY)
    tally = WindowCounter([], NOW, slots.HOUR)
    waits = [tally.take([one, two]), tally.take([one, two]), tally.take([one]), tally.take([one])]

    assert [bool(wait) for wait in waits] == [False, True, False, True]
    assert tally.added == {"client/shop": 2, "ip/192.0.2.7": 1}
    assert tally.take([]) == 0


def test_slots_of_an_hour() -> None:
    """A failure counts for a day and no longer than the end of its hour asks for."""
    limit, now = Limit("client/shop", 1, DAY), 1_900_000_000_000 // slots.HOUR * slots.HOUR
    rows = [("client/shop", now // slots.HOUR, 1)]
    day = 24 * slots.HOUR

    assert WindowCounter(rows, now, slots.HOUR).wait(limit) == day + slots.HOUR
    assert WindowCounter(rows, now + day + slots.HOUR - 1, slots.HOUR).wait(limit) == 1
    assert WindowCounter(rows, now + day + slots.HOUR, slots.HOUR).wait(limit) == 0


@given(st.lists(st.integers(0, 4 * HOUR * MINUTE), max_size=60).map(sorted), st.integers(1, 9))
def test_never_more_than_the_limit(asked: list[int], count: int) -> None:
    """Whenever mails are asked for, no hour has more than the limit, and a wait is long enough."""
    limit = Limit("total", count, HOUR)
    sent: list[int] = []
    for at in asked:
        rows = [("total", (NOW + time) // MINUTE, 1) for time in sent]
        wait = WindowCounter(rows, NOW + at).wait(limit)
        if wait:
            assert WindowCounter(rows, NOW + at + wait).wait(limit) == 0
            assert WindowCounter(rows, NOW + at + wait - 1).wait(limit) == 1
        else:
            sent.append(at)

    for first, last in zip(sent, sent[count:], strict=False):
        assert last - first >= HOUR * MINUTE
