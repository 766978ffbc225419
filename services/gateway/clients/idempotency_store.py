"""The Idempotency-Keys, with the id and time of each one's first request."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from services.gateway.clients.idempotency import Hold, IdempotencyKey, RequestStamp
from services.gateway.clients.tables import STORE_SECONDS, bounded, failures, idempotency_keys
from shared.batch import Batcher
from shared.storage import dialect
from shared.storage.database import Database, as_handler_errors
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock, Row

BATCH_SECONDS = 0.002  # to collect new keys: a commit costs as much processor time as 20 of them
PURGE_BATCH_SIZE = 1000  # rows a transaction, which other writers wait for

# An update of nothing, since RETURNING has no row after DO NOTHING.
_INSERT = """
    INSERT INTO uses (client, path, key, fingerprint, request_id, requested_at)
    SELECT * FROM $rows(text, text, text, bytea, text, bigint) WHERE column1 IS NOT NULL
    ON CONFLICT (client, path, key) DO UPDATE SET client = uses.client
    RETURNING client, path, key, fingerprint, request_id, requested_at
"""

_KeyUse = tuple[IdempotencyKey, bytes, RequestStamp]


class IdempotencyKeyStore:
    """Reads and writes Idempotency-Keys. Methods raise StoreUnavailable after STORE_SECONDS."""

    def __init__(
        self, database: Database, remember_seconds: float, clock: Clock = dialect.now
    ) -> None:
        self._database = database
        self._remember = round(remember_seconds * MILLISECONDS_PER_SECOND)
        self._clock = clock
        self._inserts = Batcher(self._insert_all, BATCH_SECONDS)

    async def first(
        self, key: IdempotencyKey, fingerprint: bytes, stamp: RequestStamp
    ) -> tuple[bytes, RequestStamp]:
        """Store a key unless it is there; return the fingerprint and stamp of its first request."""
        with failures():
            return await self._inserts.add((key, fingerprint, stamp), STORE_SECONDS)

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

    async def forget(self, key: IdempotencyKey, request_id: str) -> None:
        """Delete a key, so that its next request is the first one.

        A key that stands for another request by now is left: that one may have been accepted.
        """
        gone = sa.delete(idempotency_keys).where(
            *_row_of(key), idempotency_keys.c.request_id == request_id
        )
        async with bounded():
            await self._database.write(lambda c: c.execute(gone))

    async def hold(self, key: IdempotencyKey, seconds: float) -> Hold:
        """Hold a key while its request is under way, unless another request holds it.

        It ends after `seconds` by itself: a process that is killed releases nothing.
        """
        milliseconds = round(seconds * MILLISECONDS_PER_SECOND)
        async with bounded():
            return await self._database.write(lambda c: self._hold(c, key, milliseconds))

    def _hold(self, connection: sa.Connection, key: IdempotencyKey, milliseconds: int) -> Hold:
        now, held_until = self._clock(connection), idempotency_keys.c.held_until
        until = connection.scalar(
            sa.update(idempotency_keys)
            .where(*_row_of(key), sa.or_(held_until.is_(None), held_until <= now))
            .values(held_until=now + milliseconds)
            .returning(held_until)
        )
        if until is not None:
            return Hold(until)
        left = connection.scalar(sa.select(held_until - now).where(*_row_of(key)))
        # Between the two statements the other request may have ended.
        return Hold(0, max(left or 0, 1) / MILLISECONDS_PER_SECOND)

    async def release(self, key: IdempotencyKey, hold: Hold) -> None:
        """End a hold; one that has ended by itself, and is another request's by now, stays."""
        free = (
            sa.update(idempotency_keys)
            .where(*_row_of(key), idempotency_keys.c.held_until == hold.until)
            .values(held_until=None)
        )
        async with bounded():
            await self._database.write(lambda c: c.execute(free))

    async def purge(self) -> None:
        """Delete all keys older than `remember_seconds`, in batches."""
        while await self._database.write(self._purge) == PURGE_BATCH_SIZE:
            pass
        await self._database.empty_log()

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


def _row_of(key: IdempotencyKey) -> Sequence[sa.ColumnElement[bool]]:
    table = idempotency_keys.c
    return table.client == key.client, table.path == key.path, table.key == key.key


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
