"""Publishing the changes of the suppression list, each until the broker has confirmed it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from services.ledger.store.suppressing import SuppressionStore
from services.ledger.suppressions import StoredSuppression
from shared.contracts import Contract
from shared.errors import Unavailable

# Until the database is asked for changes of a replica that has died before it published them.
LOOK_SECONDS = 10.0
RETRY_SECONDS = 1.0  # after the broker was away

logger = structlog.get_logger(__name__)


class SuppressionAnnouncer:
    """Publishes the entries that are not announced; no crash after their commit loses an event.

    An entry that changes twice before it is published has one event, of its last version. Two
    replicas may publish one event twice, which has the same id.
    """

    def __init__(self, publish: Callable[[Contract], Awaitable[None]]) -> None:
        self._publish = publish
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Publish at once what has changed."""
        self._changed.set()

    async def run(self, store: SuppressionStore) -> None:
        """Publish what is not announced, now and after each change, until it is cancelled."""
        while True:
            self._changed.clear()
            seconds = LOOK_SECONDS if await self._publish_all(store) else RETRY_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    async def _publish_all(self, store: SuppressionStore) -> bool:
        """Publish in pieces; return False if the broker does not take one."""
        while entries := await store.unannounced():
            confirmed = await self._confirmed(entries)
            await store.announced(confirmed)
            if len(confirmed) < len(entries):
                return False
        return True

    async def _confirmed(self, entries: Sequence[StoredSuppression]) -> Sequence[StoredSuppression]:
        events = [each.event for each in entries]
        done = await asyncio.gather(*map(self._publish, events), return_exceptions=True)
        problems = [each for each in done if each is not None]
        if others := [each for each in problems if not isinstance(each, Unavailable)]:
            raise others[0]
        if problems:
            logger.warning(
                "changes of the suppression list wait", count=len(problems), reason=str(problems[0])
            )
        return [entry for entry, end in zip(entries, done, strict=True) if end is None]
