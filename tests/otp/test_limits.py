"""Limits: the subjects that mails and guesses are counted for, and the windows of the counts."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.otp.codes import CodeScope
from services.otp.limits import DAY_MS, HOUR_MS, MINUTE_MS, CodeLimits, Limit, WindowCounter, site

SCOPE = CodeScope("shop", "sign-in", "Anna@example.com")
LIMITS = CodeLimits(5, 10, 100, 20, 50, 1000, client_failures=200, ip_failures=40)


def test_everything_that_a_mail_is_counted_for() -> None:
    """A mail counts for its recipient, client, address and domain, and in all."""
    assert LIMITS.of_mail(SCOPE, ip_address("192.0.2.7")) == [
        Limit("recipient/anna@example.com", 5, HOUR_MS),
        Limit("recipient/anna@example.com", 10, DAY_MS),
        Limit("client/shop", 100, HOUR_MS),
        Limit("ip/192.0.2.7", 20, HOUR_MS),
        Limit("domain/example.com", 50, HOUR_MS),
        Limit("total", 1000, HOUR_MS),
    ]


def test_without_an_address() -> None:
    """A mail without an address counts for everything else."""
    assert {limit.subject.partition("/")[0] for limit in LIMITS.of_mail(SCOPE, None)} == {
        "recipient",
        "client",
        "domain",
        "total",
    }


def test_switched_off() -> None:
    """A limit of 0 does not exist."""
    assert CodeLimits(0, 0, 0, 0, 0, 0).of_mail(SCOPE, ip_address("::1")) == []
    assert len(replace(LIMITS, domain_hourly=0).of_mail(SCOPE, None)) == 4
    assert CodeLimits(0, 0, 0, 0, 0, 0).of_guess(SCOPE, ip_address("::1")) == []


def test_whose_failure_a_guess_is() -> None:
    """A guess counts for its client and for its address, not for the pair of them."""
    client, ip = Limit("client/shop", 200, DAY_MS), Limit("ip/2001:db8::/64", 40, DAY_MS)

    assert LIMITS.of_guess(SCOPE, ip_address("2001:db8::7")) == [client, ip]
    assert LIMITS.of_guess(replace(SCOPE, email="ben@example.com"), None) == [client]
    assert replace(LIMITS, client_failures=0).of_guess(SCOPE, ip_address("2001:db8::8")) == [ip]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
    ],
)
def test_one_site(address: str, expected: str) -> None:
    """All addresses of a customer's network are one subject."""
    assert site(ip_address(address)) == expected


NOW = 1_900_000_000_000 - 1_900_000_000_000 % MINUTE_MS
ANNA = Limit("recipient/anna@example.com", 5, HOUR_MS)


def counted(*minutes: int) -> list[tuple[str, int, int]]:
    """Return one mail in each of these minutes before now."""
    return [(ANNA.subject, NOW // MINUTE_MS - minute, 1) for minute in minutes]


def test_below_a_limit_there_is_no_wait() -> None:
    """Below a limit there is no wait."""
    counter = WindowCounter(counted(0, 10, 20, 30), NOW)

    assert counter.wait(ANNA) == 0
    counter.add([ANNA.subject])
    assert counter.wait(ANNA) > 0


def test_the_wait_is_until_the_oldest_leaves() -> None:
    """The wait for the next mail ends when the oldest counted one is an hour old."""
    assert WindowCounter(counted(0, 10, 20, 30, 40), NOW).wait(ANNA) == 21 * MINUTE_MS
    assert WindowCounter(counted(0, 10, 20, 30, 40), NOW + 30_000).wait(ANNA) == 20.5 * MINUTE_MS
    assert WindowCounter(counted(0, 10, 20, 30, 40, 50), NOW).wait(ANNA) == 21 * MINUTE_MS
    assert WindowCounter([(ANNA.subject, NOW // MINUTE_MS, 9)], NOW).wait(ANNA) == 61 * MINUTE_MS


def test_what_is_old_does_not_count() -> None:
    """A mail counts for as long as its minute overlaps the limit's time."""
    assert WindowCounter(counted(60, 60, 60, 60, 60), NOW).wait(ANNA) == MINUTE_MS
    assert WindowCounter(counted(61, 61, 61, 61, 61), NOW).wait(ANNA) == 0


def test_others_do_not_count() -> None:
    """Each subject is counted for itself."""
    counter = WindowCounter(counted(0, 0, 0, 0, 0), NOW)

    assert counter.wait(Limit("recipient/ben@example.com", 5, HOUR_MS)) == 0


def test_a_clock_put_back_gives_no_mail_back() -> None:
    """A mail of a future minute counts, so that a clock put back gives none back."""
    assert WindowCounter(counted(-30, -30, -30, -30, -30), NOW).wait(ANNA) == 91 * MINUTE_MS


def test_what_was_added() -> None:
    """The added counts, and no others, are of the present minute."""
    counter = WindowCounter(counted(0, 1), NOW + 59_999)
    counter.add([ANNA.subject, "total"])
    counter.add(["total"])

    assert counter.added == {ANNA.subject: 1, "total": 2}
    assert counter.slot == NOW // MINUTE_MS


def test_taken_by_all_limits_or_none() -> None:
    """A mail that one limit refuses is counted for no other."""
    one, two = Limit("client/shop", 2, DAY_MS), Limit("ip/192.0.2.7", 1, DAY_MS)
    counter = WindowCounter([], NOW, HOUR_MS)
    waits = [
        counter.take([one, two]),
        counter.take([one, two]),
        counter.take([one]),
        counter.take([one]),
    ]

    assert [bool(wait) for wait in waits] == [False, True, False, True]
    assert counter.added == {"client/shop": 2, "ip/192.0.2.7": 1}
    assert counter.take([]) == 0


def test_slots_of_an_hour() -> None:
    """A failure counts for a day from the end of its hour on."""
    limit, now = Limit("client/shop", 1, DAY_MS), 1_900_000_000_000 // HOUR_MS * HOUR_MS
    rows = [("client/shop", now // HOUR_MS, 1)]
    day = DAY_MS

    assert WindowCounter(rows, now, HOUR_MS).wait(limit) == day + HOUR_MS
    assert WindowCounter(rows, now + day + HOUR_MS - 1, HOUR_MS).wait(limit) == 1
    assert WindowCounter(rows, now + day + HOUR_MS, HOUR_MS).wait(limit) == 0


@given(st.lists(st.integers(0, 4 * HOUR_MS), max_size=60).map(sorted), st.integers(1, 9))
def test_never_more_than_the_limit(asked: list[int], count: int) -> None:
    """No hour has more mails than the limit, and no wait is too short."""
    limit = Limit("total", count, HOUR_MS)
    sent: list[int] = []
    for at in asked:
        rows = [("total", (NOW + time) // MINUTE_MS, 1) for time in sent]
        wait = WindowCounter(rows, NOW + at).wait(limit)
        if wait:
            assert WindowCounter(rows, NOW + at + wait).wait(limit) == 0
            assert WindowCounter(rows, NOW + at + wait - 1).wait(limit) == 1
        else:
            sent.append(at)

    for first, last in zip(sent, sent[count:], strict=False):
        assert last - first >= HOUR_MS
