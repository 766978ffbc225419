"""The store of Idempotency-Keys, in SQLite and in PostgreSQL."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from ops import ports
from services.gateway.clients.idempotency import Hold, IdempotencyKey, RequestStamp
from services.gateway.clients.idempotency_store import PURGE_BATCH_SIZE, IdempotencyKeyStore
from services.gateway.clients.tables import StoreUnavailable, idempotency_keys
from shared.storage.database import Database
from shared.storage.postgres import PostgresDatabase
from tests.clock import Clock
from tests.databases import has_log

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = 86_400.0  # seconds
KEY_USE = IdempotencyKey("shop", "/v1/messages", "order-17")
STAMP = RequestStamp("m1", NOW)


async def test_an_unreachable_database_is_unavailable() -> None:
    """An unreachable database raises StoreUnavailable, so no repeat passes for a new request."""
    [nowhere] = ports.unused(1)
    server = PostgresDatabase(f"postgresql+asyncpg://127.0.0.1:{nowhere}/x", "gateway")
    store = IdempotencyKeyStore(Database(server), DAY)

    with pytest.raises(StoreUnavailable):
        await store.first(KEY_USE, b"f", STAMP)
    with pytest.raises(StoreUnavailable):
        await store.hold(KEY_USE, 10)


async def test_the_first_use_of_a_key_stands(database: Database) -> None:
    """Every later use of a key returns the stamp of the first, also after a restart."""
    store = IdempotencyKeyStore(database, DAY)

    first = await store.first(KEY_USE, b"f1", STAMP)
    again = await IdempotencyKeyStore(database, DAY).first(KEY_USE, b"f2", RequestStamp("m2", NOW))

    assert first == again == (b"f1", STAMP)


async def test_of_many_first_uses_at_once_one_stands(database: Database, replica: Database) -> None:
    """A request has one id, also at several replicas at once."""
    stores = [IdempotencyKeyStore(each, DAY) for each in (database, replica)]
    stamps = [RequestStamp(f"m{number}", NOW) for number in range(20)]

    found = await asyncio.gather(
        *(
            stores[number % 2].first(KEY_USE, stamp.id.encode(), stamp)
            for number, stamp in enumerate(stamps)
        )
    )

    assert len({(fingerprint, stamp.id) for fingerprint, stamp in found}) == 1


async def test_keys_that_come_at_once_share_a_transaction(database: Database) -> None:
    """Each request gets its own stamp, and copies of a request get the first one's."""
    store = IdempotencyKeyStore(database, DAY)
    keys = [IdempotencyKey("shop", "/v1/otp", str(number % 7)) for number in range(20)]

    found = await asyncio.gather(
        *(
            store.first(key, b"f", RequestStamp(f"m{number}", NOW))
            for number, key in enumerate(keys)
        )
    )

    assert [stamp.id for _, stamp in found] == [f"m{number % 7}" for number in range(20)]


async def test_a_key_is_another_for_another_client_or_path(database: Database) -> None:
    """A key of another client or path is another key."""
    store = IdempotencyKeyStore(database, DAY)
    uses = [
        KEY_USE,
        IdempotencyKey("bank", KEY_USE.path, KEY_USE.key),
        IdempotencyKey(KEY_USE.client, "/v1/otp", KEY_USE.key),
    ]

    for number, use in enumerate(uses):
        stamp = RequestStamp(f"m{number}", NOW)
        assert await store.first(use, b"f", stamp) == (b"f", stamp)


async def test_a_forgotten_key_is_new(database: Database) -> None:
    """A forgotten key is new; forgetting it twice does no harm."""
    store = IdempotencyKeyStore(database, DAY)
    await store.first(KEY_USE, b"f", STAMP)

    await store.forget(KEY_USE, STAMP.id)
    await store.forget(KEY_USE, STAMP.id)

    assert await store.first(KEY_USE, b"g", RequestStamp("m2", NOW)) == (
        b"g",
        RequestStamp("m2", NOW),
    )


async def test_keys_are_forgotten_after_their_time(database: Database, tmp_path: Path) -> None:
    """Keys are deleted after their time by the database's clock, in several batches if needed."""
    clock = Clock()
    store = IdempotencyKeyStore(database, DAY, clock)
    begun = datetime.fromtimestamp(clock.seconds, UTC)
    many = [
        IdempotencyKey("shop", "/v1/otp", str(number)) for number in range(PURGE_BATCH_SIZE + 1)
    ]
    rows = [
        {
            "client": use.client,
            "path": use.path,
            "key": use.key,
            "fingerprint": b"f",
            "request_id": "m1",
            "requested_at": round(clock.seconds * 1000),
        }
        for use in many
    ]
    await database.write(lambda connection: connection.execute(sa.insert(idempotency_keys), rows))
    clock.seconds += DAY
    await store.purge()
    assert await store.first(many[0], b"f", RequestStamp("m2", begun)) == (
        b"f",
        RequestStamp("m1", begun),
    )

    clock.seconds += 1
    await store.purge()
    assert not has_log(tmp_path)

    fresh = RequestStamp("m3", datetime.fromtimestamp(clock.seconds, UTC))
    assert await store.first(many[0], b"f", fresh) == (b"f", fresh)
    assert await store.first(many[-1], b"f", fresh) == (b"f", fresh)


async def test_a_key_of_a_later_request_is_not_forgotten(database: Database) -> None:
    """A refused request forgets its own key, and not that of a request after it."""
    store = IdempotencyKeyStore(database, DAY)
    await store.first(KEY_USE, b"f", STAMP)
    await store.forget(KEY_USE, STAMP.id)
    second = RequestStamp("m2", NOW)
    await store.first(KEY_USE, b"f", second)

    await store.forget(KEY_USE, STAMP.id)

    assert await store.first(KEY_USE, b"f", RequestStamp("m3", NOW)) == (b"f", second)


async def test_a_key_is_held_by_one_request_at_a_time(
    database: Database, replica: Database
) -> None:
    """Of many requests at once, at two replicas, one holds the key; the others get its seconds."""
    clock = Clock()
    stores = [IdempotencyKeyStore(each, DAY, clock) for each in (database, replica)]
    await stores[0].first(KEY_USE, b"f", STAMP)

    holds = await asyncio.gather(*(stores[n % 2].hold(KEY_USE, 30) for n in range(20)))

    [held] = (each for each in holds if not each.wait_seconds)
    assert sorted(each.wait_seconds for each in holds) == [0.0, *[30.0] * 19]
    await stores[1].release(KEY_USE, held)
    assert not (await stores[1].hold(KEY_USE, 30)).wait_seconds


async def test_a_hold_ends_by_itself(database: Database) -> None:
    """The key of a request that never ended is held again after its seconds, and not released."""
    clock = Clock()
    store = IdempotencyKeyStore(database, DAY, clock)
    await store.first(KEY_USE, b"f", STAMP)
    killed = await store.hold(KEY_USE, 30)

    clock.seconds += 29
    assert (await store.hold(KEY_USE, 30)).wait_seconds == 1.0
    clock.seconds += 1
    second = await store.hold(KEY_USE, 30)
    await store.release(KEY_USE, killed)

    assert not second.wait_seconds
    assert (await store.hold(KEY_USE, 30)).wait_seconds == 30.0


async def test_a_key_that_is_not_there_is_not_held(database: Database) -> None:
    """A key that another request has forgotten meanwhile is not held."""
    store = IdempotencyKeyStore(database, DAY)

    assert await store.hold(KEY_USE, 30) == Hold(0, 0.001)


async def test_a_held_key_keeps_its_request(database: Database) -> None:
    """A hold changes nothing of the first request's id and fingerprint."""
    store = IdempotencyKeyStore(database, DAY)
    await store.first(KEY_USE, b"f", STAMP)
    await store.hold(KEY_USE, 30)

    assert await store.first(KEY_USE, b"g", RequestStamp("m2", NOW)) == (b"f", STAMP)
