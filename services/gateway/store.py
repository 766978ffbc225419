"""The registered clients, each with the id of its one key. A client that is gone is revoked."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from services.gateway.keys import Key
from services.gateway.rounds import Rounds
from shared.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
STORE_SECONDS = 5.0  # for one question to the database, the wait for a connection included

clients = sa.Table(
    "clients",
    sa.MetaData(),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)
_KEYS_OF = sa.select(clients.c.id, clients.c.key_id).where(
    clients.c.id.in_(sa.bindparam("clients", expanding=True))
)


class StoreAway(ConnectionError):
    """The database did not answer."""


class ClientStore:
    """Reads and writes the clients. Every method raises StoreAway after STORE_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rounds = Rounds(self._current)

    async def register(self, key: Key, at: datetime) -> bool:
        """Add a client with its key; False when the client is there already."""
        new = sa.insert(clients).values(id=key.client, key_id=key.id, created_at=at)
        async with _bounded():
            try:
                await self._database.write(lambda connection: connection.execute(new))
            except sa.exc.IntegrityError:
                return False
        return True

    async def revoke(self, client: str) -> bool:
        """Remove a client; False when there is none of that id."""
        gone = sa.delete(clients).where(clients.c.id == client)
        async with _bounded():
            return await self._database.write(lambda c: c.execute(gone).rowcount > 0)

    async def is_current(self, key: Key) -> bool:
        """Tell whether a key is its client's; never from memory, so that a revocation counts."""
        return await self._rounds.has(key)

    async def _current(self, keys: Collection[Key]) -> Collection[Key]:
        named = {"clients": sorted({key.client for key in keys})}
        async with _bounded():
            found = await self._database.read(lambda c: c.execute(_KEYS_OF, named).all())
        return {Key(client, key_id) for client, key_id in found}


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Limit the time, and tell the database's ways of being away in one way."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise StoreAway(f"the database: {type(error).__name__}") from error
