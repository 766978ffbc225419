"""The tables of the gateway: clients, their Idempotency-Keys, and the use of their rate limits."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.gateway.clients.clients import AllowedSenders
from services.gateway.clients.idempotency import IdempotencyKey, RequestStamp
from services.gateway.clients.keys import ApiKey
from shared.batch import Batcher
from shared.errors import Reject, Retry, Unavailable
from shared.storage import dialect
from shared.storage.database import Database, as_handler_errors
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock, Row
from shared.storage.rate import Rate
from shared.storage.rate_limit import TokenBuckets

MIGRATIONS = Path(__file__).parent.parent / "migrations"
STORE_SECONDS = 5.0  # for a statement, with the wait for a connection
PURGE_BATCH_SIZE = 1000  # rows a transaction, which other writers wait for

metadata = sa.MetaData()

clients = sa.Table(
    "clients",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("senders", sa.JSON(none_as_null=True)),  # From addresses and domains; any if absent
)

# The table keeps its old name: a rename would fail every request with a key at the replicas of
# the version before, for as long as an upgrade of several replicas takes.
idempotency_keys = sa.Table(
    "uses",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),  # of the request's body
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("requested_at", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Index("uses_requested_at", "requested_at"),
)

quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("used_until", sa.BigInteger, nullable=False),  # microseconds since 1970
)

_KEYS_OF_CLIENTS = sa.select(clients.c.id, clients.c.key_id, clients.c.senders).where(
    clients.c.id.in_(sa.bindparam("clients", expanding=True))
)

# An update of nothing, since RETURNING has no row after DO NOTHING.
_INSERT = """
    INSERT INTO uses (client, path, key, fingerprint, request_id, requested_at)
    SELECT * FROM $rows(text, text, text, bytea, text, bigint) WHERE column1 IS NOT NULL
    ON CONFLICT (client, path, key) DO UPDATE SET client = uses.client
    RETURNING client, path, key, fingerprint, request_id, requested_at
"""

_KeyUse = tuple[IdempotencyKey, bytes, RequestStamp]


class StoreUnavailable(Unavailable):
    """The database did not answer."""


class ClientStore:
    """Reads and writes the clients. Every method raises StoreUnavailable after STORE_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = Batcher(self._read_all)
        self._version: int | None = None
        self._known: dict[ApiKey, AllowedSenders | None] = {}  # as of that version

    async def register(self, key: ApiKey, senders: AllowedSenders, at: datetime) -> bool:
        """Add a client with its key; return False when the client exists."""
        new = sa.insert(clients).values(
            id=key.client, key_id=key.id, created_at=at, senders=senders.senders
        )
        async with _bounded():
            try:
                await self._database.write(lambda connection: connection.execute(new))
            except sa.exc.IntegrityError:
                return False
        return True

    async def revoke(self, client: str) -> bool:
        """Remove a client and its key; return False when there is no client of that id."""
        gone = sa.delete(clients).where(clients.c.id == client)
        async with _bounded():
            return await self._database.write(lambda c: c.execute(gone).rowcount > 0)

    async def senders(self, key: ApiKey) -> AllowedSenders | None:
        """Return the senders of a key's client, None when the key is not that client's key.

        The memory answers only while the database is unchanged, so that a revocation counts.
        """
        known = self._remembered()
        if key not in known:
            known[key] = await self._reads.add(key)
        return known[key]

    def _remembered(self) -> dict[ApiKey, AllowedSenders | None]:
        version = self._database.version()
        if version is None or version != self._version:
            # A new dict: a query that is under way may return rows older than this version.
            self._known, self._version = {}, version
        return self._known

    async def _read_all(self, keys: Sequence[ApiKey]) -> Sequence[AllowedSenders | None]:
        named = {"clients": sorted({key.client for key in keys})}
        async with _bounded():
            rows = await self._database.read(lambda c: c.execute(_KEYS_OF_CLIENTS, named).all())
        found = {ApiKey(client, id_): AllowedSenders(senders) for client, id_, senders in rows}
        return [found.get(key) for key in keys]


class IdempotencyKeyStore:
    """Reads and writes Idempotency-Keys. Methods raise StoreUnavailable after STORE_SECONDS."""

    def __init__(
        self, database: Database, remember_seconds: float, clock: Clock = dialect.now
    ) -> None:
        self._database = database
        self._remember = round(remember_seconds * MILLISECONDS_PER_SECOND)
        self._clock = clock
        self._inserts = Batcher(self._insert_all)

    async def first(
        self, key: IdempotencyKey, fingerprint: bytes, stamp: RequestStamp
    ) -> tuple[bytes, RequestStamp]:
        """Store a key unless it is there; return the fingerprint and stamp of its first request."""
        async with _bounded():
            return await self._inserts.add((key, fingerprint, stamp))

    async def _insert_all(self, uses: Sequence[_KeyUse]) -> Sequence[tuple[bytes, RequestStamp]]:
        # PostgreSQL takes a key once a statement. Rows are in one order at every gateway, since
        # two that lock the same rows in different orders would wait for each other.
        rows = {key: _row(key, fingerprint, stamp) for key, fingerprint, stamp in reversed(uses)}
        async with asyncio.timeout(STORE_SECONDS):
            with as_handler_errors("the Idempotency-Keys"):
                found = await self._database.write(
                    partial(_insert, rows=sorted(rows.values(), key=itemgetter(0, 1, 2)))
                )
        return [found[key] for key, _, _ in uses]

    async def forget(self, key: IdempotencyKey) -> None:
        """Delete a key, so that its next request is the first one."""
        table = idempotency_keys.c
        gone = sa.delete(idempotency_keys).where(
            table.client == key.client, table.path == key.path, table.key == key.key
        )
        async with _bounded():
            await self._database.write(lambda c: c.execute(gone))

    async def purge(self) -> None:
        """Delete all keys older than `remember_seconds`, in batches."""
        while await self._database.write(self._purge) == PURGE_BATCH_SIZE:
            pass

    def _purge(self, connection: sa.Connection) -> int:
        # A subquery, which is evaluated once; for a bare clock no index would be used.
        now = sa.select(self._clock(connection)).scalar_subquery()
        table = idempotency_keys.c
        old = sa.select(table.client, table.path, table.key).where(
            table.requested_at < now - self._remember
        )
        named = sa.tuple_(table.client, table.path, table.key)
        return connection.execute(
            sa.delete(idempotency_keys).where(named.in_(old.limit(PURGE_BATCH_SIZE)))
        ).rowcount


class QuotaStore:
    """The clients' quotas, a token bucket each."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._buckets = TokenBuckets(database, quotas, clock)

    async def take(self, client: str, count: int, quota: Rate) -> float:
        """Claim `count` requests of a quota; return 0.0, or the seconds until there are so many.

        Raises StoreUnavailable after STORE_SECONDS.
        """
        async with _bounded():
            return await self._buckets.take(client, count, count, quota)


def _row(key: IdempotencyKey, fingerprint: bytes, stamp: RequestStamp) -> Row:
    at = int(stamp.at.timestamp() * MILLISECONDS_PER_SECOND)
    return (key.client, key.path, key.key, fingerprint, stamp.id, at)


def _insert(
    connection: sa.Connection, rows: Sequence[Row]
) -> Mapping[IdempotencyKey, tuple[bytes, RequestStamp]]:
    """Insert the keys that are new; return the first request of each."""
    found: Sequence[Any] = dialect.execute(connection, _INSERT, rows=rows).all()
    return {
        IdempotencyKey(client, path, key): (
            bytes(fingerprint),
            RequestStamp(id_, datetime.fromtimestamp(at / MILLISECONDS_PER_SECOND, UTC)),
        )
        for client, path, key, fingerprint, id_, at in found
    }


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Raise StoreUnavailable for every failure of the database, and after STORE_SECONDS."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            yield
    except (sa.exc.SQLAlchemyError, OSError, Retry, Reject) as error:
        raise StoreUnavailable(f"the database: {type(error).__name__}") from error
