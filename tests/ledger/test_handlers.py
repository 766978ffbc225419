"""The handlers of the ledger, on its database."""

from pathlib import Path

from services.ledger.handlers import MailHandlers
from services.ledger.service import MIGRATIONS
from services.ledger.store.recording import MailStore
from services.ledger.suppressions import SuppressingEvent
from shared.contracts import EmailBounced
from shared.storage.database import Database
from tests.ledger.books import ADA, command, event, read_books, statuses
from tests.sender.senders import HASHER


async def test_commands_and_outcomes_are_recorded_and_nothing_is_published(tmp_path: Path) -> None:
    """Recording has no results, a repetition changes nothing, and a bounce is passed on."""
    bounced: list[SuppressingEvent] = []

    async def on_refused(event: SuppressingEvent) -> None:
        bounced.append(event)

    async with Database.open("ledger", None, tmp_path, MIGRATIONS) as database:
        handlers = MailHandlers(MailStore(database, 0, HASHER), on_refused)
        returned = [
            await handlers.on_accepted(command()),
            await handlers.on_outcome(event(EmailBounced)),
        ]
        once = await read_books(database)
        await handlers.on_batch([event(EmailBounced), command()])

        assert returned == [(), ()]
        assert [each.recipient for each in bounced] == [ADA, ADA]
        assert statuses(once) == {("m-1", ADA): "bounced"}
        assert await read_books(database) == once
