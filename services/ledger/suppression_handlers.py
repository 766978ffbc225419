"""The handlers of the suppression list: bounces, questions, and the request for a copy."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.suppressing import SuppressionStore
from services.ledger.suppressions import StoredSuppression, bounce
from shared.contracts import (
    AddSuppressions,
    AnnounceSuppressions,
    Contract,
    DescribeSuppression,
    EmailBounced,
    ForgetAddress,
    ListSuppressions,
    RemoveSuppressions,
    Suppression,
    SuppressionsChanged,
    SuppressionsListed,
)

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SuppressionHandlers:
    """Changes the suppression list and answers questions about it.

    Each change is committed before the answer, and its event is published after it.
    """

    store: SuppressionStore
    forgetter: AddressForgetter

    async def on_bounced(self, event: EmailBounced) -> None:
        """Suppress an address that does not exist. Safe to run twice: a bounce counts once."""
        if (found := bounce(event)) is not None:
            await self.store.bounce(found)

    async def on_add(self, question: AddSuppressions) -> Sequence[Contract]:
        """Add entries. Safe to run twice: an entry that is the same stays as it is."""
        changed = await self.store.add(question.suppressions)
        return [SuppressionsChanged(id=question.id, suppressions=_shown(changed))]

    async def on_remove(self, question: RemoveSuppressions) -> Sequence[Contract]:
        """Remove entries. Safe to run twice: the second time there are none."""
        changed = await self.store.remove(question.emails, question.client, question.origin)
        return [SuppressionsChanged(id=question.id, suppressions=_shown(changed))]

    async def on_describe(self, question: DescribeSuppression) -> Sequence[Contract]:
        """Answer with the entries of an address. Changes nothing."""
        found = await self.store.describe(question.email, question.client)
        return [SuppressionsListed(id=question.id, suppressions=_shown(found))]

    async def on_list(self, question: ListSuppressions) -> Sequence[Contract]:
        """Answer with a page of entries. Changes nothing."""
        found, after = await self.store.page(question)
        return [SuppressionsListed(id=question.id, suppressions=_shown(found), next=after or None)]

    async def on_forget(self, command: ForgetAddress) -> Sequence[Contract]:
        """Forget a person; of an opt-out the hash stays. Safe to run twice: nothing is left."""
        await self.store.forget(command.email)
        deleted = await self.forgetter.forget(command.email)
        logger.info("forgot an address", mails=deleted)
        return ()

    async def on_announce(self, _: AnnounceSuppressions) -> Sequence[Contract]:
        """Mark all entries to be announced again. Safe to run twice: copies are harmless."""
        await self.store.announce_again()
        return ()


def _shown(entries: Sequence[StoredSuppression]) -> tuple[Suppression, ...]:
    return tuple(each.suppression for each in entries)
