"""The sessions that were logged out: at every console, and also while the database is away."""

from contextlib import suppress

from services.console.sessions import Session
from services.console.store import EndedSessionStore
from shared.errors import Retry

LOOK_SECONDS = 5.0  # between two looks without a request


class EndedSessions:
    """Ends sessions before their time. Each request asks the database, so that none is late.

    Without the database the sessions count that were known before, so that pages can still be
    seen; what is done on them needs the audit, and so the database.
    """

    def __init__(self, store: EndedSessionStore) -> None:
        self._store = store
        self._known: frozenset[str] = frozenset()  # also those that the database has purged
        self._waiting: dict[str, float] = {}  # the ends of those that are not in the database
        self._is_away = False

    async def end(self, session: Session) -> None:
        """End a session. Raises Retry if only this console knows of it yet."""
        self._known |= {session.id}
        self._waiting[session.id] = session.expires_at
        await self.look()

    async def covers(self, session: Session) -> bool:
        """Return whether a session was ended."""
        if not self._is_away:
            with suppress(Retry):
                await self.look()
        return session.id in self._known

    async def look(self) -> None:
        """Keep what is not kept yet, and learn what other consoles have ended. Raises Retry."""
        try:
            for identifier, expires_at in tuple(self._waiting.items()):
                await self._store.add(identifier, expires_at)
                self._waiting.pop(identifier, None)
            self._known |= await self._store.ids()
        except Retry:
            self._is_away = True  # requests no longer wait for it
            raise
        self._is_away = False
