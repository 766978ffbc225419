"""Reading mails from both databases: by id, and by pages of every combination of conditions."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa

from services.ledger.answers import KeptMail, cursor
from services.ledger.mails import Acceptance, EarlyOutcome
from services.ledger.store import reader as readers
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.reader import MailFilter, MailReader
from services.ledger.store.recording import MailStore
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailStatus,
    ListEmails,
)
from shared.contracts.fields import Tag
from shared.errors import Reject
from shared.storage.database import Database
from tests.ledger.books import ADA, AT, BOB, accepted, outcome

SPRING, AUTUMN = Tag(name="campaign", value="spring"), Tag(name="campaign", value="autumn")
MAILS = 60


@pytest.fixture
def mails(database: Database) -> MailReader:
    """Return the reader of one test."""
    return MailReader(database)


async def recorded(store: MailStore, *records: Acceptance | EarlyOutcome) -> None:
    """Record all at once."""
    await asyncio.gather(*map(store.record, records))


def question(**conditions: Any) -> ListEmails:  # noqa: ANN401 -- the fields of a question
    """Return a question for a list."""
    return ListEmails(id="q-1", **conditions)


async def page(
    mails: MailReader,
    limit: int = 50,
    **conditions: Any,  # noqa: ANN401 -- the fields of a question
) -> Sequence[str]:
    """Return the ids of one page."""
    found = await mails.page(MailFilter.of(question(**conditions)), limit)
    return [each.message.email_id for each in found.mails]


async def pages(
    mails: MailReader,
    limit: int,
    **conditions: Any,  # noqa: ANN401 -- the fields of a question
) -> Sequence[KeptMail]:
    """Return the mails of all pages, one after the other by their cursors."""
    found: list[KeptMail] = []
    after = None
    for _ in range(10 * MAILS):
        one = await mails.page(MailFilter.of(question(after=after, **conditions)), limit)
        found += one.mails
        if not one.next:
            return found
        after = cursor(one.next)
    raise AssertionError("the pages have no end")


async def test_each_page_has_a_plan_of_its_own(mails: MailReader, database_url: str | None) -> None:
    """PostgreSQL's plan for all values reads all mails of a client; SQLite has none such."""
    texts: list[str] = []

    def note(_connection: object, _cursor: object, text: str, *_: object) -> None:
        texts.append(text)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        await page(mails, 7, client="shop")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)

    settings = [text for text in texts if "force_custom_plan" in text]
    assert settings == texts[:1] if database_url else not settings


async def test_a_mail_has_its_recipients_and_their_outcomes(
    store: MailStore, mails: MailReader
) -> None:
    """A mail is found with the outcome of each recipient, and with those that count no more."""
    await recorded(
        store,
        accepted("m-1", ADA, BOB),
        outcome(EmailDeferred, "m-1", ADA, 1),
        outcome(EmailDelivered, "m-1", ADA, 2),
    )

    found = await mails.find("m-1", "shop")

    assert found is not None
    assert found.message.email_id == "m-1"
    assert [(each.recipient, each.attempt) for each in found.recipients] == [(ADA, 2), (BOB, 0)]
    assert [(each.recipient, each.attempt) for each in found.earlier] == [(ADA, 1)]


async def test_a_mail_is_found_by_its_client_alone(store: MailStore, mails: MailReader) -> None:
    """An id of another client is another mail; without a client the only mail of it is found."""
    await recorded(
        store,
        accepted("m-1", ADA, client="shop"),
        accepted("m-2", ADA, client=None),
        outcome(EmailDelivered, "m-3", ADA),
    )

    assert await mails.find("m-1", "bakery") is None
    assert await mails.find("m-2", "shop") is None
    assert await mails.find("m-3", "shop") is None, "its command has not come"
    assert await mails.find("m-4", None) is None
    for email_id, client in (("m-1", "shop"), ("m-1", None), ("m-2", None), ("m-2", "")):
        found = await mails.find(email_id, client)
        assert found is not None
        assert found.message.email_id == email_id


async def test_clients_that_share_an_id(
    store: MailStore, mails: MailReader, forgetter: AddressForgetter
) -> None:
    """Mails of one id are all named by their clients, and none stands for another."""
    await recorded(store, accepted("m-1", ADA, client="shop"))
    await recorded(store, accepted("m-1", BOB, client=None))
    both = await mails.owners("m-1", None)
    either = await mails.find("m-1", None)
    await forgetter.forget(ADA)

    assert either is None
    assert ({*both.clients}, both.forgotten) == ({"shop", ""}, False)
    assert await mails.owners("m-1", None) == ([""], True)
    assert await mails.owners("m-1", "shop") == ([], True)
    assert await mails.find("m-1", None) is not None


async def test_a_list_has_the_newest_first(store: MailStore, mails: MailReader) -> None:
    """Mails are listed by their time of acceptance, whenever they were recorded."""
    for number, minutes in ((1, 3), (2, 1), (3, 2)):
        await recorded(store, accepted(f"m-{number}", created_at=AT + timedelta(minutes=minutes)))

    assert await page(mails, client="shop") == ["m-1", "m-3", "m-2"]
    assert await page(mails, client="bakery") == []
    assert await page(mails, since=AT + timedelta(minutes=2)) == ["m-1", "m-3"]
    assert await page(mails, until=AT + timedelta(minutes=2)) == ["m-2"]


def some_mails() -> Sequence[Acceptance | EarlyOutcome]:
    """Return mails of two clients, of all classes, with tags, and with several outcomes."""
    records: list[Acceptance | EarlyOutcome] = []
    categories = tuple(Category)
    for number in range(MAILS):
        email_id, client = f"m-{number:02}", ("shop", "bakery")[number % 2]
        to = (ADA, BOB) if number % 3 else (BOB,)
        records.append(
            accepted(
                email_id,
                *to,
                client=client,
                category=categories[number % 3],
                tags=((SPRING,), (AUTUMN,), ())[number // 2 % 3],
                created_at=AT + timedelta(seconds=number // 4),
            )
        )
        kind = (EmailDelivered, EmailBounced, EmailDeferred, None)[number // 3 % 4]
        if kind is not None:
            records.append(outcome(kind, email_id, to[0], client=client))
    return records


def fits(mail: KeptMail, asked: ListEmails) -> bool:
    """Return whether a mail meets all conditions, by its rows."""
    message = mail.message
    statuses = [
        tuple(EmailStatus)[each.status]
        for each in mail.recipients
        if asked.recipient in (None, each.recipient)
    ]
    return (
        asked.client in (None, message.client)
        and bool(statuses)
        and asked.status in (None, *statuses)
        and asked.category in (None, tuple(Category)[message.category])
        and (asked.tag is None or asked.tag.partition(":")[2] in (message.tags or ""))
    )


@pytest.mark.parametrize("scanned", [7, readers.MAX_SCANNED])
async def test_pages_have_each_mail_that_fits_once(
    store: MailStore, mails: MailReader, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    """For every combination of conditions the pages together are the mails that meet them.

    A page may have fewer mails than there are, when few of many that were looked up fit.
    """
    monkeypatch.setattr(readers, "MAX_SCANNED", scanned)
    await recorded(store, *some_mails())
    everything = await pages(mails, 100)
    assert len(everything) == MAILS

    for client, recipient, status, category, tag in product(
        (None, "shop"),
        (None, ADA),
        (None, EmailStatus.WAITING, EmailStatus.DELIVERED, EmailStatus.BOUNCED),
        (None, Category.BULK),
        (None, "campaign:spring"),
    ):
        conditions = {
            "client": client,
            "recipient": recipient,
            "status": status,
            "category": category,
            "tag": tag,
        }
        asked = question(**conditions)
        expected = [each.message.email_id for each in everything if fits(each, asked)]
        found = [each.message.email_id for each in await pages(mails, 4, **conditions)]

        assert found == expected, conditions


async def test_a_page_holds_what_an_answer_can(
    store: MailStore, mails: MailReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page with many recipients has fewer mails, and the next page has the others."""
    monkeypatch.setattr(readers, "MAX_PAGE_RECIPIENTS", 5)
    to = [f"r{number}@one.example" for number in range(3)]
    await recorded(
        store,
        *(accepted(f"m-{n}", *to, created_at=AT + timedelta(seconds=n)) for n in range(5)),
    )

    first = await mails.page(MailFilter.of(question(client="shop")), 50)

    assert [each.message.email_id for each in first.mails] == ["m-4"]
    assert [each.message.email_id for each in await pages(mails, 50)] == [
        *("m-4", "m-3", "m-2", "m-1", "m-0")
    ]


async def test_an_address_is_found_in_any_case(store: MailStore, mails: MailReader) -> None:
    """Mails to an address are found whatever the case of its letters, each once."""
    await recorded(
        store, accepted("m-1", "Ada@one.example", ADA), accepted("m-2", BOB), accepted("m-3", ADA)
    )

    assert sorted(await page(mails, recipient="ADA@one.example")) == ["m-1", "m-3"]


async def test_times_far_from_now_are_no_error(store: MailStore, mails: MailReader) -> None:
    """No database holds the number of a mail of the year 9998, and a client may ask for it."""
    await recorded(store, accepted("m-1", ADA))
    late = datetime(9998, 1, 1, tzinfo=UTC)

    after = await mails.page(MailFilter.of(question(since=late)), 10)
    before = await mails.page(MailFilter.of(question(until=late, after="f" * 16)), 10)

    assert [len(after.mails), len(before.mails)] == [0, 1]


async def test_a_value_that_no_database_holds_is_rejected(mails: MailReader) -> None:
    """A question that the database refuses is rejected, and never a failure of the handler."""
    with pytest.raises(Reject, match="cannot hold"):
        await mails.page(MailFilter.of(question())._replace(first=1 << 64), 1)
