"""The ledger whole, on a real broker: from commands and outcomes to its books."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from services.ledger import service
from services.ledger.config import LedgerSettings
from services.ledger.service import MIGRATIONS
from shared import topology
from shared.broker import Broker
from shared.contracts import Category, Contract, SendEmail
from shared.contracts.attachment import Attachment
from shared.errors import Unavailable
from shared.rabbitmq import declare
from shared.storage.database import Database
from tests.ledger.books import ADA, BOB, Books, event, overall, read_books, statuses
from tests.sender.senders import SUPPRESSION_KEY
from tests.serving import serving
from tests.tap import depth, publish_raw
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def settings(vhost: str, database_url: str | None, tmp_path: Path) -> LedgerSettings:
    """Return the settings of a service in a vhost of its own."""
    return LedgerSettings(
        amqp_url=vhost,
        data_dir=tmp_path,
        database_url=database_url,
        suppression_key=SUPPRESSION_KEY,
    )


running = partial(serving, service.run)


def mail(email_id: str = "m-1", *to: str, **more: object) -> SendEmail:
    """Return a command."""
    values = {"client": "shop", "subject": "Hello", "text": "A secret text", "to": to or (ADA,)}
    return SendEmail.model_validate({"id": email_id, **values, **more})


async def published(settings: LedgerSettings, *messages: Contract) -> None:
    """Publish all at once, as the gateway and the sender do."""
    async with Broker.connect(settings.amqp_url, "test") as broker:
        await asyncio.gather(*map(broker.publish, messages))


async def books_of(settings: LedgerSettings, recipients: int) -> Books:
    """Read the books until they have so many recipients with an outcome, and nothing is queued."""
    url, folder = settings.database_url, settings.data_dir
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        Database.open("ledger", url, folder, MIGRATIONS) as database,
    ):
        while True:
            books = await read_books(database)
            ended = sum(each != "waiting" for each in statuses(books).values())
            if ended >= recipients and not await depth(settings.amqp_url, topology.LEDGER_MAIL):
                # Again: in PostgreSQL each of its statements sees what is committed before it.
                return await read_books(database)


async def test_from_the_command_to_the_books(settings: LedgerSettings) -> None:
    """The copy of each command and each outcome, each twice, makes the books."""
    await declare(settings.amqp_url, topology.EXCHANGES, topology.queues(scale=0.01))
    file = Attachment(filename="a.bin", content="QUJD" * 100_000)
    messages = [
        mail("m-1", ADA, BOB, attachments=(file,)),
        mail("m-2", category=Category.BULK),
        event(email_id="m-1"),
        event(email_id="m-1", recipient=BOB),
        event(email_id="m-2", category=Category.BULK),
    ]
    async with running(settings):
        await published(settings, *messages, *messages)
        books = await books_of(settings, 3)

    assert overall(books) == {"delivered": 3}
    assert books.early == 0
    sizes = {row[0]: row[8] for row in books.mails}
    assert sizes["m-1"] > len(file.content)
    assert sizes["m-2"] < len(file.content)
    assert "secret" not in str(books)


async def test_what_is_no_mail_is_a_dead_letter(settings: LedgerSettings) -> None:
    """A body that is not its contract blocks nothing."""
    await declare(settings.amqp_url, topology.EXCHANGES, topology.queues(scale=0.01))
    async with running(settings):
        await publish_raw(settings.amqp_url, topology.LEDGER_MAIL, b"{", "email.send.bulk")
        await published(settings, mail(), event())
        await books_of(settings, 1)

        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await depth(settings.amqp_url, f"{topology.LEDGER_MAIL}.dead"):
                pass


async def test_no_mail_is_accepted_that_would_not_be_recorded(
    vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a ledger its queue fills up; then no command is confirmed."""
    queues = [each for each in topology.queues() if each.owner != topology.Owner.LEDGER]
    monkeypatch.setattr(topology, "MAX_WAITING", 20)
    queues += [each for each in topology.queues() if each.owner == topology.Owner.LEDGER]
    await declare(vhost, topology.EXCHANGES, queues)

    async with Broker.connect(vhost, "test") as broker:
        with pytest.raises(Unavailable):
            await _publish_many(broker, 200)


async def _publish_many(broker: Broker, count: int) -> None:
    for number in range(count):
        await broker.publish(mail(f"m-{number}"))
