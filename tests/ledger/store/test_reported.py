"""Finding the mails that reports name, in both databases."""

import asyncio

import pytest
import sqlalchemy as sa

from services.ledger.mails import Acceptance, EarlyOutcome
from services.ledger.store import reported
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.recording import MailStore
from services.ledger.store.reported import ReportedMails
from services.ledger.store.sql import message_ids
from shared.contracts import Category, FindEmail, MailReference
from shared.contracts.fields import MAX_RECIPIENTS, Tag
from shared.return_path import address_hash, mail_key
from shared.storage.database import Database
from tests.ledger.books import ADA, BOB, accepted, outcome

SPRING = Tag(name="campaign", value="spring")


@pytest.fixture
def mails(database: Database) -> ReportedMails:
    """Return the mails of one test."""
    return ReportedMails(database)


async def recorded(store: MailStore, *records: Acceptance | EarlyOutcome) -> None:
    """Record all at once."""
    await asyncio.gather(*map(store.record, records))


ID = "a..mail."
OUR_MESSAGE_ID = "<a.=2Email=2E@shop.example>"
BY_PATH = FindEmail(
    id="q", mail_key=mail_key(ID, "shop").hex(), address_hash=address_hash(ADA.upper())
)


@pytest.mark.parametrize(
    "asked",
    [
        BY_PATH,
        FindEmail(id="q", email_id=ID, recipient=ADA),
        FindEmail(id="q", message_id=OUR_MESSAGE_ID, recipient="Ada@one.example"),
    ],
    ids=["return path", "id", "Message-ID"],
)
async def test_a_report_finds_its_mail(
    store: MailStore, mails: ReportedMails, asked: FindEmail
) -> None:
    """A mail is found by each of its names, with its recipient, tags and metadata."""
    other = accepted(ID, BOB, client="other")
    found = accepted(ID, ADA, BOB, tags=(SPRING,), metadata={"order": "7"})
    await recorded(store, found, other, outcome(email_id=ID, message_id=OUR_MESSAGE_ID))

    assert await mails.find(asked) == MailReference(
        email_id=ID,
        client="shop",
        category=Category.TRANSACTIONAL,
        recipient=ADA,
        message_id=OUR_MESSAGE_ID,
        tags=(SPRING,),
        metadata={"order": "7"},
    )


async def test_a_report_finds_a_mail_by_its_own_message_id(
    store: MailStore, mails: ReportedMails, forgetter: AddressForgetter
) -> None:
    """A client's own Message-ID finds its mail by each recipient, until one is forgotten."""
    own, twice = "<1@shop.example>", "<twice@shop.example>"
    await recorded(
        store,
        accepted(ID, ADA, BOB, message_id=own),
        accepted("m-2", ADA, message_id=twice),
        accepted("m-3", ADA, message_id=twice),
        accepted("m-4", ADA),
        outcome(email_id=ID, message_id=own),
    )

    async def found(message_id: str, recipient: str | None) -> str | None:
        asked = FindEmail(id="q", message_id=message_id, recipient=recipient)
        mail = await mails.find(asked)
        return None if mail is None else f"{mail.email_id} {mail.recipient}"

    assert await found(own, "Ada@one.example") == f"{ID} {ADA}"
    assert await found(own, BOB) == f"{ID} {BOB}"
    assert await found(own, "eve@one.example") is None
    assert await found(own, None) is None
    assert await found(own.upper(), ADA) is None
    assert await found(twice, ADA) is None

    await forgetter.forget(ADA)
    assert await found(own, ADA) is None
    assert await found(own, BOB) == f"{ID} {BOB}"


@pytest.mark.parametrize(
    "asked",
    [
        FindEmail(id="q", message_id="<m-1@shop.example>", recipient=ADA),
        FindEmail(id="q", message_id="<m-1@shop.example>"),
    ],
)
async def test_a_message_id_of_the_sender_needs_no_place(
    store: MailStore, mails: ReportedMails, database: Database, asked: FindEmail
) -> None:
    """A mail whose Message-ID has its id is found by that, and has no row of its own for it."""
    await recorded(store, accepted("m-1", ADA, message_id="<m-1@shop.example>"))

    found = await mails.find(asked)
    assert found is not None
    assert found.email_id == "m-1"
    count = sa.select(sa.func.count()).select_from(message_ids)
    assert await database.read(lambda connection: connection.execute(count).scalar_one()) == 0


@pytest.mark.parametrize(
    "asked",
    [
        FindEmail(id="q", email_id="another"),
        FindEmail(id="q", email_id=ID),  # of two recipients, and of two clients
        FindEmail(id="q", email_id=ID, recipient=BOB),
        FindEmail(id="q", email_id=ID, recipient="eve@one.example"),
        FindEmail(id="q", message_id="<a.=2Email=2E@their.example>", recipient=ADA),
        FindEmail(id="q", message_id="CAB+x=_@mail.example"),
        BY_PATH.model_copy(update={"address_hash": address_hash("eve@one.example")}),
        BY_PATH.model_copy(update={"mail_key": mail_key(ID, None).hex()}),
    ],
)
async def test_a_report_that_names_no_mail_for_certain_finds_none(
    store: MailStore, mails: ReportedMails, asked: FindEmail
) -> None:
    """Another mail, another recipient, and a name that several mails have, find none."""
    await recorded(
        store,
        accepted(ID, ADA, BOB),
        accepted(ID, BOB, client="other"),
        outcome(email_id=ID, message_id=OUR_MESSAGE_ID),
    )

    assert await mails.find(asked) is None


async def test_questions_at_once_find_each_its_own_mail(
    store: MailStore, mails: ReportedMails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions in one transaction are answered apart, however many recipients their mails have."""
    monkeypatch.setattr(reported, "MAX_PAGE_RECIPIENTS", 2 * MAX_RECIPIENTS)
    await recorded(store, *(accepted(f"m-{number}", ADA, BOB) for number in range(7)))
    asked = [
        FindEmail(id="q", email_id=f"m-{number}", recipient=recipient)
        for number in range(8)
        for recipient in (ADA, BOB)
    ]

    found = await asyncio.gather(*map(mails.find, asked))

    assert [each and (each.email_id, each.recipient) for each in found] == [
        None if each.email_id == "m-7" else (each.email_id, each.recipient) for each in asked
    ]
