"""Reading sums from both databases, through the handler that divides them into periods."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.ledger.handlers import MailQueryHandlers
from services.ledger.store.reader import MailReader
from services.ledger.store.recording import MailRecord, MailStore
from services.ledger.store.reported import ReportedMails
from services.ledger.store.totals import TotalFilter, TotalReader
from shared.contracts import (
    Category,
    CountEmails,
    EmailBounced,
    EmailCounts,
    EmailDeferred,
    EmailDelivered,
    EmailsCounted,
    ReplyClass,
)
from shared.contracts.fields import Tag
from shared.errors import Reject
from shared.storage.database import Database
from tests.ledger.books import ADA, BOB, accepted, outcome


def moment(text: str) -> datetime:
    """Return a time of ISO 8601."""
    return datetime.fromisoformat(text)


@pytest.fixture
def handlers(database: Database) -> MailQueryHandlers:
    """Return the handlers of one test."""
    return MailQueryHandlers(MailReader(database), ReportedMails(database), TotalReader(database))


async def counted(
    handlers: MailQueryHandlers,
    since: str = "2026-10-24T00:00Z",
    until: str = "2026-10-28T00:00Z",
    **more: Any,  # noqa: ANN401 -- the fields of a question
) -> EmailsCounted:
    """Return the sums of a time."""
    question = CountEmails(id="q-1", since=moment(since), until=moment(until), **more)
    [answer] = await handlers.on_count_emails(question)
    assert isinstance(answer, EmailsCounted)
    return answer


def numbers(counts: EmailCounts) -> Mapping[str, int]:
    """Return the sums that are not zero."""
    found = counts.model_dump(exclude={"since"})
    return {name: count for name, count in found.items() if count}


async def kept(store: MailStore, *hours: str, **more: object) -> None:
    """Record a mail for each time, with the time as its id."""
    mails = [accepted(each.replace(":", "-"), created_at=moment(each), **more) for each in hours]
    await asyncio.gather(*map(store.record, mails))


async def test_accepted_is_the_sum_of_all_others(
    store: MailStore, handlers: MailQueryHandlers
) -> None:
    """Each recipient counts once, under the state that it has now."""
    at = moment("2026-10-25T10:20Z")
    records: list[MailRecord] = [
        accepted("m-1", ADA, BOB, created_at=at),
        outcome(EmailDeferred, "m-1", ADA, 1),
        outcome(EmailDelivered, "m-1", ADA, 2),
        accepted("m-2", ADA, BOB, created_at=at),
        outcome(EmailBounced, "m-2", ADA),
        outcome(EmailBounced, "m-2", BOB, reply_class=ReplyClass.MAILBOX_FULL),
    ]
    await asyncio.gather(*map(store.record, records))

    total = (await counted(handlers)).total

    assert total.since == moment("2026-10-24T00:00Z")
    assert numbers(total) == {
        "accepted": 4,
        "waiting": 1,
        "delivered": 1,
        "bounced_permanent": 1,
        "bounced_transient": 1,
    }


async def test_sums_are_of_whole_hours(store: MailStore, handlers: MailQueryHandlers) -> None:
    """The hours of UTC that a time touches are counted, the others are not."""
    await kept(
        store, *(f"2026-10-25T{hour:02}:{minute}Z" for hour in range(6) for minute in (10, 50))
    )

    answer = await counted(handlers, "2026-10-25T01:30Z", "2026-10-25T03:00Z", by="hour")

    assert [(each.since, each.accepted) for each in answer.periods] == [
        (moment("2026-10-25T01:00Z"), 2),
        (moment("2026-10-25T02:00Z"), 2),
    ]
    assert answer.total.accepted == 4
    assert (await counted(handlers, "2026-10-25T01:30Z", "2026-10-25T03:00Z")).periods == ()


@pytest.mark.parametrize(
    ("zone", "hours", "days"),
    [
        (
            "Europe/Vienna",  # it has 25 hours
            ("2026-10-24T21:59Z", "2026-10-24T22:00Z", "2026-10-25T22:59Z", "2026-10-25T23:00Z"),
            {"2026-10-23T22:00Z": 1, "2026-10-24T22:00Z": 2, "2026-10-25T23:00Z": 1},
        ),
        (
            "Asia/Kolkata",  # midnight is at half past six in the evening
            ("2026-10-24T18:40Z", "2026-10-24T19:00Z", "2026-10-25T18:59Z", "2026-10-25T19:00Z"),
            {"2026-10-23T19:00Z": 1, "2026-10-24T19:00Z": 2, "2026-10-25T19:00Z": 1},
        ),
        (
            "UTC",
            ("2026-10-24T23:59Z", "2026-10-25T00:00Z"),
            {"2026-10-24T00:00Z": 1, "2026-10-25T00:00Z": 1},
        ),
    ],
)
async def test_an_hour_belongs_to_the_day_in_which_it_begins(
    store: MailStore,
    handlers: MailQueryHandlers,
    zone: str,
    hours: tuple[str, ...],
    days: Mapping[str, int],
) -> None:
    """Days are those of the zone, with the first full hour of UTC in each as its beginning."""
    await kept(store, *hours)

    answer = await counted(handlers, by="day", timezone=zone)

    assert [(each.since, each.accepted) for each in answer.periods] == [
        (moment(since), count) for since, count in days.items()
    ]


async def test_sums_are_of_one_client_and_one_slice(
    store: MailStore, handlers: MailQueryHandlers
) -> None:
    """A category, a tag or a domain leaves fewer mails; no client counts those of another."""
    at = moment("2026-10-25T10:20Z")
    spring = (Tag(name="campaign", value="spring"),)
    records = [
        accepted("m-1", ADA, BOB, created_at=at, tags=spring),
        accepted("m-2", ADA, created_at=at, category=Category.BULK),
        accepted("m-3", ADA, created_at=at, client="bakery", tags=spring),
        accepted("m-4", ADA, created_at=at, client=None),
    ]
    await asyncio.gather(*map(store.record, records))

    for more, count in (
        ({}, 5),
        ({"client": "shop"}, 3),
        ({"client": "nobody"}, 0),
        ({"category": Category.BULK}, 1),
        ({"tag": "campaign"}, 3),
        ({"tag": "campaign:spring", "client": "bakery"}, 1),
        ({"tag": "campaign:autumn"}, 0),
        ({"domain": "two.example"}, 1),
        ({"domain": "one.example", "client": "shop"}, 2),
    ):
        assert (await counted(handlers, **more)).total.accepted == count, more


@pytest.mark.parametrize(
    "more",
    [
        {"timezone": "Europe/Atlantis"},
        {"timezone": "../../etc/passwd"},
        {"timezone": ""},
        {"tag": "campaign", "domain": "one.example"},
    ],
)
async def test_a_question_that_has_no_answer_is_rejected(
    handlers: MailQueryHandlers, more: dict[str, str]
) -> None:
    """An unknown time zone, and a tag with a domain, are not answered."""
    with pytest.raises(Reject):
        await counted(handlers, **more)


async def test_an_answer_has_at_most_its_periods(handlers: MailQueryHandlers) -> None:
    """A time with more hours than an answer can have is rejected."""
    begin = moment("2026-01-01T00:00Z")
    until = (begin + timedelta(days=101)).isoformat()
    with pytest.raises(Reject):
        await counted(handlers, begin.isoformat(), until)


async def test_a_value_that_no_database_holds_is_rejected(database: Database) -> None:
    """A question that the database refuses is rejected, and never a failure of the handler."""
    with pytest.raises(Reject, match="cannot hold"):
        await TotalReader(database).by_hour(TotalFilter("shop", "", "", None, 0, 1 << 64))
