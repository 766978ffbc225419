"""The gateway's store, in SQLite and in PostgreSQL."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from ops import ports
from services.gateway.clients.clients import AllowedSenders
from services.gateway.clients.idempotency import IdempotencyKey, RequestStamp
from services.gateway.clients.keys import ApiKey
from services.gateway.clients.store import (
    MIGRATIONS,
    PURGE_BATCH_SIZE,
    ClientStore,
    IdempotencyKeyStore,
    QuotaStore,
    StoreUnavailable,
    idempotency_keys,
    metadata,
)
from shared.storage.database import Database, PostgresDatabase
from shared.storage.rate import Rate
from tests.clock import Clock
from tests.databases import Opener, differences

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = ApiKey("shop", "k1")
ANY = AllowedSenders()
DAY = 86_400.0  # seconds
KEY_USE = IdempotencyKey("shop", "/v1/messages", "order-17")
STAMP = RequestStamp("m1", NOW)


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open a database for one test."""
    return await open_database("gateway", MIGRATIONS)


@pytest.fixture
async def replica(open_database: Opener) -> Database:
    """Open the same database once more, as another process does."""
    return await open_database("gateway", MIGRATIONS)


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the stores write to are those that the migrations make."""
    assert await differences(database, metadata) == []


async def test_a_registered_key_is_valid(database: Database) -> None:
    """A key is valid from its registration on, for its client alone."""
    store = ClientStore(database)

    assert await store.senders(KEY) is None
    assert await store.register(KEY, ANY, NOW)
    assert await store.senders(KEY) == ANY
    assert await store.senders(ApiKey("bank", "k1")) is None
    assert await store.senders(ApiKey("shop", "k2")) is None


async def test_a_client_is_registered_once(database: Database) -> None:
    """A second registration of a client changes nothing."""
    store = ClientStore(database)
    await store.register(KEY, ANY, NOW)

    assert not await store.register(ApiKey("shop", "k2"), ANY, NOW)
    assert await store.senders(KEY) == ANY


async def test_a_revoked_key_stays_revoked_for_a_new_client_of_that_id(
    database: Database,
) -> None:
    """A revoked key stays revoked when its client is registered again."""
    store = ClientStore(database)
    await store.register(KEY, ANY, NOW)

    assert await store.revoke("shop")
    assert await store.senders(KEY) is None
    assert not await store.revoke("shop")

    assert await store.register(ApiKey("shop", "k2"), ANY, NOW)
    assert await store.senders(KEY) is None


async def test_a_revocation_counts_at_once_for_every_replica(
    database: Database, replica: Database
) -> None:
    """A revocation by one replica holds at once in all of them."""
    ours, theirs = ClientStore(database), ClientStore(replica)
    await ours.register(KEY, ANY, NOW)
    assert await theirs.senders(KEY) == ANY

    await ours.revoke("shop")

    assert await theirs.senders(KEY) is None


async def test_an_unchanged_database_is_not_read_again(
    open_database: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SQLite file is read once for all requests between two commits."""
    database = await open_database("gateway", MIGRATIONS)
    store = ClientStore(database)
    await store.register(KEY, ANY, NOW)
    asked = 0
    read = database.read

    async def counted(work: Callable[[sa.Connection], Any]) -> Any:  # noqa: ANN401 -- as `read`
        nonlocal asked
        asked += 1
        return await read(work)

    monkeypatch.setattr(database, "read", counted)
    for _ in range(5):
        assert await store.senders(KEY) == ANY
        assert await store.senders(ApiKey("bank", "k1")) is None
    await store.revoke("shop")
    assert [await store.senders(KEY) for _ in range(5)] == [None] * 5

    assert asked == (3 if database.version() is not None else 15)


async def test_a_key_read_after_a_change_is_not_older(database: Database) -> None:
    """Readers that come together share one read, which begins after each of them has asked."""
    store = ClientStore(database)
    before = [asyncio.create_task(store.senders(KEY)) for _ in range(5)]
    await store.register(KEY, ANY, NOW)
    after = await asyncio.gather(*(store.senders(KEY) for _ in range(5)))

    assert after == [ANY] * 5
    await asyncio.gather(*before)


async def test_an_unreachable_database_is_unavailable() -> None:
    """An unreachable database raises StoreUnavailable, so no key passes unchecked."""
    [nowhere] = ports.unused(1)
    server = PostgresDatabase(f"postgresql+asyncpg://127.0.0.1:{nowhere}/x", "gateway")
    store = ClientStore(Database(server))

    with pytest.raises(StoreUnavailable):
        await store.senders(KEY)
    with pytest.raises(StoreUnavailable):
        await store.register(KEY, ANY, NOW)
    with pytest.raises(StoreUnavailable):
        await IdempotencyKeyStore(Database(server), DAY).first(KEY_USE, b"f", STAMP)


async def test_a_client_has_the_senders_it_was_registered_with(database: Database) -> None:
    """A client has the senders of its registration; an empty list allows none."""
    store = ClientStore(database)
    given = [AllowedSenders(["a@x.example", "@y.example"]), AllowedSenders([]), ANY]
    for number, senders in enumerate(given):
        await store.register(ApiKey(f"c{number}", "k"), senders, NOW)

    assert [await store.senders(ApiKey(f"c{number}", "k")) for number in range(3)] == given


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

    await store.forget(KEY_USE)
    await store.forget(KEY_USE)

    assert await store.first(KEY_USE, b"g", RequestStamp("m2", NOW)) == (
        b"g",
        RequestStamp("m2", NOW),
    )


async def test_keys_are_forgotten_after_their_time(database: Database) -> None:
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

    fresh = RequestStamp("m3", datetime.fromtimestamp(clock.seconds, UTC))
    assert await store.first(many[0], b"f", fresh) == (b"f", fresh)
    assert await store.first(many[-1], b"f", fresh) == (b"f", fresh)


async def test_a_quota_is_that_of_all_gateways_together(
    database: Database, replica: Database, clock: Clock
) -> None:
    """All gateways together admit no more than the quota in each second."""
    quota = Rate(10)
    stores = [QuotaStore(each, clock) for each in (database, replica)]
    taken = []
    for _ in range(4):
        waits = await asyncio.gather(*(stores[n % 2].take("shop", 5, quota) for n in range(6)))
        taken.append(5 * waits.count(0.0))
        assert all(wait <= 0.5 for wait in waits)
        clock.seconds += 1

    assert taken == [10, 10, 10, 10]


async def test_a_quota_is_a_clients_own(database: Database) -> None:
    """A client beyond its quota gets the seconds to wait; other clients are unaffected."""
    store = QuotaStore(database, Clock())
    slow = Rate(0.01)

    assert await store.take("shop", 1, slow) == 0.0
    assert await store.take("shop", 1, slow) == 100.0
    assert await store.take("bank", 1, slow) == 0.0


async def test_an_unused_quota_is_not_saved_up(database: Database) -> None:
    """An unused quota is not saved up beyond one second."""
    clock, quota = Clock(), Rate(10)
    store = QuotaStore(database, clock)
    assert await store.take("shop", 5, quota) == 0.0
    clock.seconds += 36_000

    waits = [await store.take("shop", 5, quota) for _ in range(3)]

    assert [wait == 0.0 for wait in waits] == [True, True, False]
