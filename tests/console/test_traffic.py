"""Mails a second, from sums of hours."""

from datetime import UTC, datetime, timedelta

from services.console.traffic import MAX_POINTS, OUTCOMES, TrafficHistory, span
from shared.contracts import Category, EmailCounts
from shared.contracts.ledger import EmailsCounted

NOW = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
HOUR = NOW.replace(minute=0)


def at(seconds: int) -> datetime:
    """Return a time after NOW."""
    return NOW + timedelta(seconds=seconds)


def bulk(*periods: EmailCounts) -> dict[Category, tuple[EmailCounts, ...]]:
    """Return sums of bulk mail, and none of the other classes."""
    return {Category.OTP: (), Category.TRANSACTIONAL: (), Category.BULK: periods}


def test_a_rate_is_what_was_added_between_two_looks() -> None:
    """Mails of any hour of the day count when they end."""
    traffic = TrafficHistory()
    yesterday = EmailCounts(since=HOUR - timedelta(hours=20), accepted=10, waiting=10)
    traffic.add(at(0), bulk(yesterday, EmailCounts(since=HOUR, accepted=100, delivered=90)))
    traffic.add(
        at(10),
        bulk(
            yesterday.model_copy(update={"waiting": 0, "bounced_permanent": 10}),
            EmailCounts(since=HOUR, accepted=150, delivered=120, failed=5),
        ),
    )
    all_, codes = traffic.hour(None), traffic.hour(Category.OTP)

    assert all_["time"] == [at(10).timestamp()]
    assert (all_["accepted"], all_["delivered"]) == ([5.0], [3.0])
    assert (all_["bounced"], all_["failed"]) == ([1.0], [0.5])
    assert codes["accepted"] == [0]
    assert traffic.hour(Category.BULK) == all_


def test_a_new_hour_and_one_that_leaves_the_day_change_no_rate() -> None:
    """A point is never negative, nor the sum of an hour."""
    traffic = TrafficHistory()
    old = EmailCounts(since=HOUR - timedelta(hours=23), accepted=500, delivered=500)
    traffic.add(at(0), bulk(old, EmailCounts(since=HOUR, delivered=7, accepted=7)))
    new = EmailCounts(since=HOUR + timedelta(hours=1), delivered=20, accepted=20)
    late = EmailCounts(since=HOUR, accepted=7, delivered=6, bounced_permanent=1)
    traffic.add(at(10), bulk(late, new))
    found = traffic.hour(None)

    assert (found["delivered"], found["accepted"], found["bounced"]) == ([2.0], [2.0], [0.1])


def test_an_hour_of_points_is_kept() -> None:
    """After a pause the points of before are not shown beside those of now."""
    traffic = TrafficHistory()
    for number in range(MAX_POINTS + 10):
        traffic.add(at(10 * number), bulk())
    full = traffic.hour(None)
    traffic.add(at(10 * MAX_POINTS + 4000), bulk())

    assert len(full["time"]) == MAX_POINTS
    assert len(traffic.hour(None)["time"]) < MAX_POINTS


def test_a_day_has_a_rate_for_each_hour() -> None:
    """The hour that goes on is divided by the time that has passed."""
    traffic = TrafficHistory()
    assert set(traffic.day(None, NOW)["delivered"]) == {0}
    past = EmailCounts(since=HOUR - timedelta(hours=2), accepted=7200, delivered=3600)
    traffic.add(NOW, bulk(past, EmailCounts(since=HOUR, accepted=1800, uncertain=18)))
    found = traffic.day(None, NOW)

    assert len(found["time"]) == 24
    assert found["time"][-1] == HOUR.timestamp()
    assert (found["accepted"][-3:], found["delivered"][-3]) == ([2.0, 0.0, 1.0], 1.0)
    assert found["uncertain"][-1] == 0.01
    assert traffic.totals()[Category.BULK]["accepted"] == 9000
    assert traffic.day(Category.OTP, NOW)["accepted"] == [0.0] * 24


def test_every_sum_of_the_ledger_is_in_a_chart_or_still_waits() -> None:
    """A count that is added to the contract is added to the charts."""
    counted = {name for names in OUTCOMES.values() for name in names}

    assert counted | {"waiting", "since"} == EmailCounts.model_fields.keys()
    assert "periods" in EmailsCounted.model_fields


def test_the_ledger_is_asked_for_a_day_of_whole_hours() -> None:
    """The current hour is part of it."""
    since, until = span(NOW)

    assert (until - since, until) == (timedelta(hours=24), HOUR + timedelta(hours=1))
