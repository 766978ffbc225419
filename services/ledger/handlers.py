"""The handlers of the ledger: commands and outcomes of mails."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.ledger.mails import acceptance, early_outcome
from services.ledger.store.recording import MailStore
from shared.contracts import AcceptedEmail, Contract, Outcome


@dataclass(frozen=True, slots=True)
class MailHandlers:
    """Records commands and outcomes.

    Safe to run twice, and in any order: the state of a mail follows from the set of its commands
    and outcomes, see `mails.rank`. The first command of an id counts; a later one only adds
    recipients that were not in it, as the sender does.
    """

    store: MailStore

    async def on_accepted(self, command: AcceptedEmail) -> Sequence[Contract]:
        """Record an accepted mail."""
        await self.store.record(acceptance(command))
        return ()

    async def on_outcome(self, event: Outcome) -> Sequence[Contract]:
        """Record an outcome."""
        await self.store.record(early_outcome(event))
        return ()
