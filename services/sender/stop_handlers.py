"""The handlers of what stops mails: the events of the suppression list, and cancellations."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from services.sender.claims import client_key
from services.sender.stops import StopStore
from services.sender.store import ClaimStore
from shared.contracts import (
    AnnounceSuppressions,
    CancelEmail,
    Contract,
    EmailCancelling,
    ForgetAddress,
    SuppressionAdded,
    SuppressionRemoved,
)
from shared.errors import Reject, Unavailable
from shared.runtime.sealing import AddressHasher

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StopHandlers:
    """Keeps what stops mails; each mail's claim looks at it."""

    store: StopStore
    claims: ClaimStore
    hasher: AddressHasher

    async def on_suppression(
        self, event: SuppressionAdded | SuppressionRemoved
    ) -> Sequence[Contract]:
        """Keep an entry of the suppression list.

        Safe to run twice and in any order: the highest version of an entry counts. Raises Reject
        when the ledger hashes with another key, since the entry would stop no mail.
        """
        email = event.suppression.email
        if email is not None and self.hasher.hash(email) != event.suppression.address_key:
            raise Reject("address_key: SUPPRESSION_KEY is not the same at the ledger and here")
        await self.store.apply(event)
        return []

    async def on_cancel_email(self, question: CancelEmail) -> Sequence[Contract]:
        """Keep a cancellation and answer with what is known of the recipients.

        Safe to run twice: a mail is cancelled once.
        """
        found = await self.store.cancel(client_key(question.client, question.email_id))
        return [EmailCancelling(id=question.id, **found._asdict())]

    async def on_forget_address(self, command: ForgetAddress) -> Sequence[Contract]:
        """Delete the outcomes for an address; the copy of the list has no addresses.

        Safe to run twice: nothing is left. An outcome that may still answer a copy of its command
        is deleted by the purge.
        """
        deleted = await self.claims.forget(command.email)
        logger.info("forgot an address", outcomes=deleted)
        return []


async def ask_for_copy(store: StopStore, publish: Callable[[Contract], Awaitable[None]]) -> None:
    """Ask the ledger for all entries when there is none here, as in a new database.

    Safe to repeat: a copy of an entry changes nothing.
    """
    if not await store.is_empty():
        return
    try:
        await publish(AnnounceSuppressions(id=str(uuid.uuid4())))
    except Unavailable as error:
        logger.warning("the suppression list was not asked for", reason=str(error))
