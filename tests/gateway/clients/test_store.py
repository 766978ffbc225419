"""The clients, in SQLite and in PostgreSQL."""

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


async def test_a_registered_key_is_current(database: Database) -> None:
    """A key is current for its client from its registration on, and for nobody else."""
    store = ClientStore(database)

    assert await store.senders(KEY) is None
    assert await store.register(KEY, ANY, NOW)
    assert await store.senders(KEY) == ANY
    assert await store.senders(ApiKey("bank", "k1")) is None
    assert await store.senders(ApiKey("shop", "k2")) is None


async def test_a_client_is_registered_once(database: Database) -> None:
    """A second registration changes nothing."""
    store = ClientStore(database)
    await store.register(KEY, ANY, NOW)

    assert not await store.register(ApiKey("shop", "k2"), ANY, NOW)
    assert await store.senders(KEY) == ANY


async def test_a_revoked_key_is_current_no_more_even_for_a_new_client_of_that_id(
    database: Database,
) -> None:
    """What was revoked stays revoked."""
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
    """No replica keeps a key in its memory."""
    ours, theirs = ClientStore(database), ClientStore(replica)
    await ours.register(KEY, ANY, NOW)
    assert await theirs.senders(KEY) == ANY

    await ours.revoke("shop")

    assert await theirs.senders(KEY) is None


async def test_what_nobody_has_changed_is_not_asked_for_again(
    open_database: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read once for any number of requests between two commits."""
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


async def test_a_database_that_is_away_is_told_as_such() -> None:
    """Nobody is let by unchecked, and the gateway can tell its client to try again."""
    [nowhere] = ports.unused(1)
    server = PostgresDatabase(f"postgresql+asyncpg://127.0.0.1:{nowhere}/x", "gateway")
    store = ClientStore(Database(server))

    with pytest.raises(StoreUnavailable):
        await store.senders(KEY)
    with pytest.raises(StoreUnavailable):
        await store.register(KEY, ANY, NOW)


async def test_a_client_has_the_senders_it_was_registered_with(database: Database) -> None:
    """Each its own; none is not the same as any."""
    store = ClientStore(database)
    given = [AllowedSenders(["a@x.example", "@y.example"]), AllowedSenders([]), ANY]
    for number, senders in enumerate(given):
        await store.register(ApiKey(f"c{number}", "k"), senders, NOW)

    assert [await store.senders(ApiKey(f"c{number}", "k")) for number in range(3)] == given


async def test_the_first_use_of_a_key_stands(database: Database) -> None:
    """Whoever comes later, at once or after a restart, gets the stamp of the first."""
    store = IdempotencyKeyStore(database, DAY)

    first = await store.first(KEY_USE, b"f1", STAMP)
    again = await IdempotencyKeyStore(database, DAY).first(KEY_USE, b"f2", RequestStamp("m2", NOW))

    assert first == again == (b"f1", STAMP)


async def test_of_many_first_uses_at_once_one_stands(database: Database, replica: Database) -> None:
    """However many replicas hear a request at once, it has one id."""
    stores = [IdempotencyKeyStore(each, DAY) for each in (database, replica)]
    stamps = [RequestStamp(f"m{number}", NOW) for number in range(20)]

    found = await asyncio.gather(
        *(
            stores[number % 2].first(KEY_USE, stamp.id.encode(), stamp)
            for number, stamp in enumerate(stamps)
        )
    )

    assert len({(fingerprint, stamp.id) for fingerprint, stamp in found}) == 1


async def test_a_key_is_another_for_another_client_or_path(database: Database) -> None:
    """Nobody meets another's request."""
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
    """What was refused may be asked for another time; to forget it twice is harmless."""
    store = IdempotencyKeyStore(database, DAY)
    await store.first(KEY_USE, b"f", STAMP)

    await store.forget(KEY_USE)
    await store.forget(KEY_USE)

    assert await store.first(KEY_USE, b"g", RequestStamp("m2", NOW)) == (
        b"g",
        RequestStamp("m2", NOW),
    )


async def test_keys_are_forgotten_after_their_time(database: Database) -> None:
    """A day by the database's clock, and not before; more than a transaction takes are no few."""
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
    """In each second, however many gateways there are, no more than the quota is let by."""
    quota = Rate(10)
    stores = [QuotaStore(each, clock) for each in (database, replica)]
    taken = []
    for _ in range(4):
        waits = await asyncio.gather(*(stores[n % 2].take("shop", quota) for n in range(6)))
        taken.append(quota.chunk * waits.count(0.0))
        assert all(wait <= quota.chunk / 10 for wait in waits)
        clock.seconds += 1

    assert taken == [10, 10, 10, 10]


async def test_a_quota_is_a_clients_own(database: Database) -> None:
    """Who asks too often is in nobody else's way, and is told when to come back."""
    store = QuotaStore(database, Clock())
    slow = Rate(0.01)

    assert await store.take("shop", slow) == 0.0
    assert await store.take("shop", slow) == 100.0
    assert await store.take("bank", slow) == 0.0


async def test_what_was_not_used_for_long_is_not_saved_up(database: Database) -> None:
    """After a night without a request a client may not ask a night's worth at once."""
    clock, quota = Clock(), Rate(10)
    store = QuotaStore(database, clock)
    assert await store.take("shop", quota) == 0.0
    clock.seconds += 36_000

    waits = [await store.take("shop", quota) for _ in range(3)]

    assert [wait == 0.0 for wait in waits] == [True, True, False]
