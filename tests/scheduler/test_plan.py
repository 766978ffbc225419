"""Tests of the period that is mailed now."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from random import Random

import pytest

from services.scheduler.plan import (
    LATE,
    MAX_MADE_UP,
    MAX_SHARES,
    Plan,
    delay,
    due_at,
    plan,
    shares,
)
from services.scheduler.recurrence import Recurrence
from shared.contracts import Missed

DAILY = Recurrence("@daily", "UTC", "08:00")
OFTEN = Recurrence("*/10 * * * *")
FIRST = datetime(2026, 3, 1, 8, tzinfo=UTC)
DRAW = Random(13).random  # noqa: S311 -- the same turns each time
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("after", [timedelta(0), 30 * MINUTE, LATE])
def test_a_period_that_is_not_late(missed: Missed, after: timedelta) -> None:
    """A period whose time has come is mailed, whatever is to become of missed ones."""
    assert plan(DAILY, missed, FIRST, FIRST + after) == Plan(FIRST, FIRST + DAY)


@pytest.mark.parametrize(
    ("missed", "planned"),
    [
        (Missed.ALL, Plan(FIRST, FIRST + DAY)),
        (Missed.LATEST, Plan(FIRST + 3 * DAY, FIRST + 4 * DAY)),
        (Missed.SKIP, Plan(None, FIRST + 4 * DAY)),
    ],
)
def test_after_days_without_a_scheduler(missed: Missed, planned: Plan) -> None:
    """Of the periods that were missed all, the last one or none are mailed, as the policy says."""
    assert plan(DAILY, missed, FIRST, FIRST + 3 * DAY + 2 * LATE) == planned


def test_skipping_mails_the_one_that_is_not_late() -> None:
    """Of several missed periods the last one is mailed if it is not late."""
    now = FIRST + 3 * DAY + 5 * MINUTE

    assert plan(DAILY, Missed.SKIP, FIRST, now) == Plan(FIRST + 3 * DAY, FIRST + 4 * DAY)


def test_all_are_mailed_one_by_one() -> None:
    """With `all` each missed period follows the one before, up to now."""
    now, period, mailed = FIRST + 65 * MINUTE, FIRST, list[datetime | None]()
    while period <= now:
        planned = plan(OFTEN, Missed.ALL, period, now)
        mailed.append(planned.mailed)
        period = planned.following

    assert mailed == [FIRST + number * 10 * MINUTE for number in range(7)]


@pytest.mark.parametrize(
    "recurrence",
    [DAILY, OFTEN, Recurrence("@monthly", "Europe/Berlin", "30 08:00"), Recurrence("0 8 29 2 *")],
)
def test_after_years_only_the_last_periods_are_made_up_for(recurrence: Recurrence) -> None:
    """With `all` as many of the missed periods are mailed as the limit says, the last ones."""
    now, period, mailed = FIRST + 250 * 366 * DAY, FIRST, list[datetime | None]()
    while period <= now:
        planned = plan(recurrence, Missed.ALL, period, now)
        mailed.append(planned.mailed)
        period = planned.following
    begin = now - 2 * DAY if recurrence is OFTEN else FIRST
    missed = [*takewhile(lambda each: each <= now, recurrence.periods(begin))]

    assert mailed == missed[-MAX_MADE_UP:]
    assert len(mailed) == MAX_MADE_UP


@pytest.mark.parametrize("missed", Missed)
def test_a_clock_that_was_set_back(missed: Missed) -> None:
    """Before its period a subscription is sent nothing, and waits for the same one."""
    assert plan(DAILY, missed, FIRST, FIRST - DAY) == Plan(None, FIRST)


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("ahead", [timedelta(0), MINUTE, LATE * 2, DAY, 40 * DAY])
def test_no_period_comes_back(missed: Missed, ahead: timedelta) -> None:
    """The following period is later than the one before, and than the one that is mailed."""
    planned = plan(DAILY, missed, FIRST, FIRST + ahead)

    assert planned.following > (planned.mailed or FIRST)


def test_runs_are_spread() -> None:
    """Subscriptions are mailed over the whole spread, each always at the same part of it."""
    spread = timedelta(minutes=10)
    delays = [delay(f"{number:032x}", spread) for number in range(1000)]

    assert delays == [delay(f"{number:032x}", spread) for number in range(1000)]
    assert all(timedelta(0) <= each < spread for each in delays)
    assert {each // MINUTE for each in delays} == set(range(10))
    assert due_at(f"{7:032x}", FIRST, spread) == FIRST + delays[7]


def test_a_spread_beyond_the_next_period_loses_none() -> None:
    """A run that waits for its part of a long spread is not late, and no later one replaces it."""
    spread, wait = timedelta(hours=10), timedelta(hours=9)
    for missed in Missed:
        period = FIRST
        for number in range(1, 4):
            now = period + wait
            planned = plan(OFTEN, missed, period, now - wait)
            assert planned == Plan(period, FIRST + number * 10 * MINUTE)
            period = planned.following
    assert delay("x", spread) % timedelta(milliseconds=1) == timedelta(0)


def test_clients_have_equal_shares() -> None:
    """A client with many content types gets as much as one with one, and each of them the same."""
    due = [("a", "x"), ("b", "x"), ("a", "y"), ("c", "x"), ("a", "z")]

    assert shares(due, 300, DRAW) == {
        ("a", "x"): 33,
        ("a", "y"): 33,
        ("a", "z"): 33,
        ("b", "x"): 100,
        ("c", "x"): 100,
    }
    assert shares([("a", "x")], 500, DRAW) == {("a", "x"): 500}
    assert shares([], 500, DRAW) == {}


@pytest.mark.parametrize("limit", [1, 7, 500])
def test_each_has_its_turn(limit: int) -> None:
    """However many content types are due, each has its turn, and a client only as many."""
    many = [("a", f"{number:04}") for number in range(20)]
    due = [*many, *((f"b{number}", "x") for number in range(100))]
    turns = [shares(due, limit, DRAW) for _ in range(3000)]

    assert {client for turn in turns for client, _ in turn} == {client for client, _ in due}
    assert all(sum(turn.values()) <= limit for turn in turns)
    assert all(len(turn) == min(MAX_SHARES, limit) for turn in turns)
    assert max(sum(client == "a" for client, _ in turn) for turn in turns) == 1
    assert {key for turn in turns for key in turn} == {*due} or limit == 1
