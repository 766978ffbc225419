"""Sums over mails over HTTP, on a real broker with a fake ledger."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.gateway.api.problem import Problem
from services.gateway.api.stats import MAX_RANGE, Stats, StatsQuery
from shared import topology
from shared.contracts import Category, CountEmails, EmailCounts, EmailsCounted
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

COUNTS = EmailCounts(
    since=NOW,
    accepted=55,
    waiting=10,
    delivered=9,
    bounced_permanent=8,
    bounced_transient=7,
    bounced_undetermined=6,
    failed=5,
    expired=4,
    suppressed=3,
    cancelled=2,
    uncertain=1,
)
SHOWN = COUNTS.model_dump(exclude={"since"})


def moment(text: str) -> datetime:
    """Return a time of ISO 8601."""
    return datetime.fromisoformat(text)


async def test_sums_have_the_three_numbers_of_executed_jobs(api: ApiClient, vhost: str) -> None:
    """Total is the number of final outcomes, successful the deliveries, failed all others."""
    ledger = FakeService(lambda it: [EmailsCounted(id=it.id, periods=(), total=COUNTS)])
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {CountEmails: ledger}):
        answer = await api.call("GET", "/v1/stats?from=2026-11-01&to=2026-11-02")

    assert (answer.status, answer.json) == (
        200,
        {
            "from": "2026-11-01T00:00:00Z",
            "to": "2026-11-02T00:00:00Z",
            "total": 45,
            "successful": 9,
            "failed": 36,
            "counts": SHOWN,
        },
    )
    read = Stats.model_validate_json(answer.content)
    assert read.successful + read.failed == read.total


async def test_sums_of_days_begin_at_midnight_of_their_zone(api: ApiClient, vhost: str) -> None:
    """The ledger gets the whole query, and each day is shown with its offset from UTC."""
    midnight = COUNTS.model_copy(update={"since": moment("2026-10-24T22:00:00Z")})
    ledger = FakeService(lambda it: [EmailsCounted(id=it.id, periods=(midnight,), total=COUNTS)])
    query = "from=2026-10-25&to=2026-10-26&by=day&timezone=Europe/Vienna&category=bulk&tag=a:b"
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {CountEmails: ledger}):
        answer = await api.call("GET", f"/v1/stats?{query}")

    [question] = ledger.got
    assert question.model_dump(exclude={"id"}, exclude_none=True) == {
        "client": "shop",
        "since": moment("2026-10-24T22:00:00Z"),
        "until": moment("2026-10-25T23:00:00Z"),  # a day of 25 hours
        "by": "day",
        "timezone": "Europe/Vienna",
        "category": Category.BULK,
        "tag": "a:b",
        "forgotten": False,
    }
    assert answer.json["to"] == "2026-10-26T00:00:00+01:00"
    assert answer.json["periods"] == [{"since": "2026-10-25T00:00:00+02:00"} | SHOWN]


async def test_the_administrator_counts_the_mails_of_all(api: ApiClient, vhost: str) -> None:
    """Without a query the sums are of the last 90 days; the administrator's are of all clients."""
    ledger = FakeService(lambda it: [EmailsCounted(id=it.id, periods=(), total=COUNTS)])
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {CountEmails: ledger}):
        answer = await api.admin.call("GET", "/v1/stats")

    [question] = ledger.got
    assert answer.status == 200
    assert question.client is None
    assert question.until - question.since in (MAX_RANGE, MAX_RANGE + timedelta(hours=1))
    assert question.until > datetime.now(UTC)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=yesterday", "#/from"),
        ("from=2026-11-01T00:00:00", "#/from"),
        ("from=2026-11-02&to=2026-11-01", "#/from"),
        ("from=2026-11-01&to=2026-11-01", "#/from"),
        ("from=2026-01-01&to=2026-11-01", "#/from"),
        ("from=2026-11-01&from=2026-11-02", "#/from"),
        ("to=0001-01-01", "#/to"),
        ("to=9999-01-01", "#/to"),
        ("to=1970-01-01", "#/from"),
        ("by=week", "#/by"),
        ("timezone=Europe/Atlantis", "#/timezone"),
        ("timezone=../../etc/passwd", "#/timezone"),
        ("timezone=localtime", "#/timezone"),
        ("timezone=Factory", "#/timezone"),
        ("from=2026", "#/from"),
        ("from=20261101", "#/from"),
        ("to=2026110100", "#/to"),
        ("domain=localhost", "#/domain"),
        ("tag=a&domain=mail.example", "#"),
    ],
)
async def test_a_mistake_in_the_query_has_its_place(
    api: ApiClient, query: str, pointer: str
) -> None:
    """A wrong query is a 422 that names the parameter."""
    answer = await api.call("GET", f"/v1/stats?{query}")

    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("query", "begin", "end"),
    [
        ({}, "2026-08-03T00:00:00Z", "2026-11-01T00:00:00Z"),
        ({"to": "2026-10-01"}, "2026-07-03T00:00:00Z", "2026-10-01T00:00:00Z"),
        (
            {"from": "2026-10-01T10:20:30Z", "to": "2026-10-01T10:20:31Z"},
            "2026-10-01T10:00:00Z",
            "2026-10-01T11:00:00Z",
        ),
        (
            {"from": "2026-10-01", "to": "2026-10-02", "timezone": "America/New_York"},
            "2026-10-01T04:00:00Z",
            "2026-10-02T04:00:00Z",
        ),
        (
            {"from": "2026-08-03", "to": "2026-11-01", "timezone": "Europe/Vienna"},
            "2026-08-02T22:00:00Z",
            "2026-10-31T23:00:00Z",
        ),
        (
            {"from": "2026-10-01", "to": "2026-10-02", "timezone": "Asia/Kolkata"},
            "2026-09-30T19:00:00Z",
            "2026-10-01T19:00:00Z",
        ),
    ],
)
def test_a_time_is_widened_to_whole_hours(query: dict[str, str], begin: str, end: str) -> None:
    """The sums are of whole hours, so the response has the times that they are of.

    An hour belongs to the day in which it begins.
    """
    read = StatsQuery.model_validate(query)

    assert read.range(NOW) == (moment(begin), moment(end))


def test_a_range_has_at_most_90_days() -> None:
    """A longer time is refused, and none begins at its end."""
    end = date(2026, 11, 1)
    StatsQuery.model_validate({"from": str(end - MAX_RANGE), "to": str(end)}).range(NOW)
    for begin in (end - MAX_RANGE - timedelta(days=1), end):
        with pytest.raises(Problem):
            StatsQuery.model_validate({"from": str(begin), "to": str(end)}).range(NOW)
