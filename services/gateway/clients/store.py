"""The registered clients, the Idempotency-Keys they have used, and how often they have asked."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from services.gateway.api.body import RequestStamp
from services.gateway.clients.idempotency import IdempotencyKey
from services.gateway.clients.keys import ApiKey
from services.gateway.clients.senders import AllowedSenders
from services.gateway.clients.tables import clients, quotas, uses
from services.gateway.rounds import Rounds
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MILLISECONDS, Clock
from shared.storage.rate import Pace
from shared.storage.rate_limit import Buckets

MIGRATIONS = Path(__file__).parent.parent / "migrations"
STORE_SECONDS = 5.0  # for one question to the database, the wait for a connection included
PURGED_AT_ONCE = 1000  # rows a transaction: nobody waits long for it

_KEYS_OF = sa.select(clients.c.id, clients.c.key_id, clients.c.senders).where(
    clients.c.id.in_(sa.bindparam("clients", expanding=True))
)


class StoreAway(ConnectionError):
    """The database did not answer."""


class ClientStore:
    """Reads and writes the clients. Every method raises StoreAway after STORE_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rounds = Rounds(self._current)
        self._version: int | None = None
        self._known: dict[ApiKey, AllowedSenders | None] = {}  # as of that version

    async def register(self, key: ApiKey, senders: AllowedSenders, at: datetime) -> bool:
        """Add a client with its key; False when the client is there already."""
        new = sa.insert(clients).values(
            id=key.client, key_id=key.id, created_at=at, senders=senders.allowed
        )
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

    async def senders(self, key: ApiKey) -> AllowedSenders | None:
        """Give from whom a key's client may send, None when the key is not its client's.

        From memory only if nobody has changed anything since, so that a revocation counts.
        """
        known = self._remembered()
        if key not in known:
            known[key] = await self._rounds.get(key)
        return known[key]

    def _remembered(self) -> dict[ApiKey, AllowedSenders | None]:
        version = self._database.version()
        if version is None or version != self._version:
            # Another one: what is being asked for may be older than this version.
            self._known, self._version = {}, version
        return self._known

    async def _current(self, keys: Collection[ApiKey]) -> Mapping[ApiKey, AllowedSenders]:
        named = {"clients": sorted({key.client for key in keys})}
        async with _bounded():
            found = await self._database.read(lambda c: c.execute(_KEYS_OF, named).all())
        return {
            ApiKey(client, key_id): AllowedSenders(senders) for client, key_id, senders in found
        }


class IdempotencyKeyStore:
    """Reads and writes the uses of keys. Every method raises StoreAway after STORE_SECONDS."""

    def __init__(self, database: Database, remember: float, clock: Clock = dialect.now) -> None:
        self._database = database
        self._remember = round(remember * MILLISECONDS)
        self._clock = clock
        self._keeping: sa.Executable | None = None

    async def first(
        self, use: IdempotencyKey, fingerprint: bytes, stamp: RequestStamp
    ) -> tuple[bytes, RequestStamp]:
        """Keep a use of a key, or give the fingerprint and stamp of the one that is kept."""
        row = {
            "new_client": use.client,
            "new_path": use.path,
            "new_key": use.key,
            "new_fingerprint": fingerprint,
            "new_request_id": stamp.id,
            "new_requested_at": int(stamp.at.timestamp() * MILLISECONDS),
        }
        async with _bounded():
            return await self._database.write(lambda connection: self._first(connection, row))

    def _first(
        self, connection: sa.Connection, row: Mapping[str, object]
    ) -> tuple[bytes, RequestStamp]:
        if self._keeping is None:  # made once: making it costs more than running it
            self._keeping = _keeping(dialect.insert(connection, uses))
        fingerprint, request_id, at = connection.execute(self._keeping, row).one()
        return fingerprint, RequestStamp(request_id, datetime.fromtimestamp(at / MILLISECONDS, UTC))

    async def forget(self, use: IdempotencyKey) -> None:
        """Let a key stand for nothing."""
        gone = sa.delete(uses).where(
            uses.c.client == use.client, uses.c.path == use.path, uses.c.key == use.key
        )
        async with _bounded():
            await self._database.write(lambda c: c.execute(gone))

    async def purge(self) -> None:
        """Forget what is older than the time it is remembered for."""
        while await self._database.write(self._purge) == PURGED_AT_ONCE:
            pass

    def _purge(self, connection: sa.Connection) -> int:
        # A subquery, which is evaluated once; for a bare clock no index would be used.
        now = sa.select(self._clock(connection)).scalar_subquery()
        old = sa.select(uses.c.client, uses.c.path, uses.c.key).where(
            uses.c.requested_at < now - self._remember
        )
        named = sa.tuple_(uses.c.client, uses.c.path, uses.c.key)
        return connection.execute(
            sa.delete(uses).where(named.in_(old.limit(PURGED_AT_ONCE)))
        ).rowcount


class QuotaStore:
    """Takes from the clients' quotas, a token bucket each."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._buckets = Buckets(database, quotas, clock)

    async def take(self, client: str, quota: Pace) -> float:
        """Take a chunk of a client's quota; 0.0, or the seconds until there is one.

        Raises StoreAway after STORE_SECONDS.
        """
        async with _bounded():
            return await self._buckets.take(client, quota.chunk, quota.chunk, quota)


def _keeping(insert: dialect.Insert) -> sa.Executable:
    # An update of nothing, since RETURNING has no row after DO NOTHING.
    row = {column.name: sa.bindparam(f"new_{column.name}", type_=column.type) for column in uses.c}
    return (
        insert.values(row)
        .on_conflict_do_update(
            index_elements=["client", "path", "key"], set_={"client": uses.c.client}
        )
        .returning(uses.c.fingerprint, uses.c.request_id, uses.c.requested_at)
    )


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Limit the time, and tell the database's ways of being away in one way."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise StoreAway(f"the database: {type(error).__name__}") from error
