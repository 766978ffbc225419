"""The stores of clients and quotas, in SQLite and in PostgreSQL."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
import sqlalchemy as sa

from ops import ports
from services.gateway.clients.clients import (
    AllowedSenders,
    Client,
    ClientSettings,
    KeyRecord,
)
from services.gateway.clients.idempotency import IdempotencyKey, RequestStamp
from services.gateway.clients.idempotency_store import IdempotencyKeyStore
from services.gateway.clients.keys import ApiKey
from services.gateway.clients.store import ClientStore, KeyAddition, NewKey
from services.gateway.clients.tables import MIGRATIONS, StoreUnavailable, UtcDateTime, clients
from shared.contracts.clients import Scope
from shared.storage.database import Database
from shared.storage.postgres import PostgresDatabase
from tests.databases import Opener

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = ApiKey("shop", "k1")
SHOP = Client("shop")
YEAR = timedelta(days=365)
MOMENT = timedelta(microseconds=1)


def new(key: ApiKey = KEY, at: datetime = NOW, lifetime: timedelta = YEAR) -> NewKey:
    """Return a key to be stored."""
    return NewKey(key, at, at + lifetime)


async def test_a_registered_key_is_valid(database: Database) -> None:
    """A key is valid from its registration on, for its client alone, which knows the time of it."""
    store = ClientStore(database)

    assert await store.client(KEY) is None
    assert await store.register(new(at=NOW + MOMENT), {})
    client = await store.client(KEY)
    assert client == SHOP
    assert client.registered_at == NOW + MOMENT
    assert await store.client(ApiKey("bank", "k1")) is None
    assert await store.client(ApiKey("shop", "k2")) is None


async def test_a_client_is_registered_once(database: Database) -> None:
    """A second registration of a client changes nothing."""
    store = ClientStore(database)
    await store.register(new(), {})

    assert not await store.register(new(ApiKey("shop", "k2")), {})
    assert await store.client(KEY) == SHOP


async def test_a_revoked_key_stays_revoked_for_a_new_client_of_that_id(
    database: Database,
) -> None:
    """A revoked key stays revoked when its client is registered again."""
    store = ClientStore(database)
    await store.register(new(), {})

    assert await store.revoke("shop")
    assert await store.client(KEY) is None
    assert not await store.revoke("shop")

    assert await store.register(new(ApiKey("shop", "k2")), {})
    assert await store.client(KEY) is None


async def test_a_revocation_counts_at_once_for_every_replica(
    database: Database, replica: Database
) -> None:
    """A revocation by one replica holds at once in all of them."""
    ours, theirs = ClientStore(database), ClientStore(replica)
    await ours.register(new(), {})
    assert await theirs.client(KEY) == SHOP

    await ours.revoke("shop")

    assert await theirs.client(KEY) is None


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("INSERT INTO client_keys (client, id, created_at) VALUES ('shop', 'k2', :at)", [1, 1]),
        ("UPDATE clients SET expires_at = :at", [0, 0]),
        ("DELETE FROM client_keys WHERE created_at <= :at", [0, 0]),
        ("DELETE FROM clients WHERE created_at <= :at", [0, 0]),
    ],
)
async def test_a_change_of_another_version_counts_at_once(
    database: Database, replica: Database, change: str, seen: Sequence[int]
) -> None:
    """The memory holds no row that was changed since, though no store has changed it."""
    store = ClientStore(database, lambda: NOW + YEAR)
    await store.register(new(), {})
    keys = KEY, ApiKey("shop", "k2")
    assert [await store.client(each) for each in keys] == [SHOP, None]
    at = sa.bindparam("at", NOW, UtcDateTime)
    await replica.write(lambda c: c.execute(sa.text(change).bindparams(at)))

    found = [await store.client(each) for each in keys]
    assert [each is not None and each.expires_at is None for each in found] == [*map(bool, seen)]


async def test_unchanged_clients_are_not_read_again(
    open_database: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SQLite file is read once between two changes of clients, whatever else is committed."""
    database = await open_database("gateway", MIGRATIONS)
    store = ClientStore(database)
    await store.register(new(), {})
    asked = 0
    read = database.read_inline

    async def counted(work: Callable[[sa.Connection], Any]) -> Any:  # noqa: ANN401 -- as `read_inline`
        nonlocal asked
        asked += 1
        return await read(work)

    monkeypatch.setattr(database, "read_inline", counted)
    idempotency = IdempotencyKeyStore(database, YEAR.total_seconds())
    for number in range(5):
        assert await store.client(KEY) == SHOP
        assert await store.client(ApiKey("bank", "k1")) is None
        use = IdempotencyKey("shop", "/v1/messages", f"{number}")
        await idempotency.first(use, b"", RequestStamp(f"{number}", NOW))
    await store.revoke("shop")
    assert [await store.client(KEY) for _ in range(5)] == [None] * 5

    is_file = database.glance("SELECT 1") is not None
    assert asked == (3 if is_file else 15)


async def test_a_key_read_after_a_change_is_not_older(database: Database) -> None:
    """Readers that come together share one read, which begins after each of them has asked."""
    store = ClientStore(database)
    before = [asyncio.create_task(store.client(KEY)) for _ in range(5)]
    await store.register(new(), {})
    after = await asyncio.gather(*(store.client(KEY) for _ in range(5)))

    assert after == [SHOP] * 5
    await asyncio.gather(*before)


async def test_an_unreachable_database_is_unavailable() -> None:
    """An unreachable database raises StoreUnavailable, so no key passes unchecked."""
    [nowhere] = ports.unused(1)
    server = PostgresDatabase(f"postgresql+asyncpg://127.0.0.1:{nowhere}/x", "gateway")
    store = ClientStore(Database(server))

    with pytest.raises(StoreUnavailable):
        await store.client(KEY)
    with pytest.raises(StoreUnavailable):
        await store.register(new(), {})


async def test_a_client_is_as_the_administrator_has_set_it(database: Database) -> None:
    """A client has its settings from the registration and from changes; None is the default."""
    store = ClientStore(database)
    settings: ClientSettings = {
        "senders": ["a@x.example", "@y.example"],
        "scopes": [Scope.READ, Scope.SEND],
        "networks": ["192.0.2.0/24", "2001:db8::/32"],
        "expires_at": NOW + YEAR,
    }
    await store.register(new(), settings)
    expected = Client(
        "shop",
        AllowedSenders(["a@x.example", "@y.example"]),
        frozenset({Scope.READ, Scope.SEND}),
        [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")],
        NOW + YEAR,
    )
    assert await store.client(KEY) == expected

    assert await store.change("shop", {"senders": [], "scopes": []})
    assert await store.client(KEY) == replace(
        expected, allowed_senders=AllowedSenders([]), scopes=frozenset()
    )

    assert await store.change("shop", dict.fromkeys(settings))  # type: ignore[arg-type] # all None
    assert await store.client(KEY) == SHOP
    assert not await store.change("bank", {"senders": []})


async def test_a_scope_of_a_later_version_is_none_here(database: Database) -> None:
    """A replica that does not know a scope gives no right for it, and goes on working."""
    store = ClientStore(database)
    await store.register(new(), {})
    later = sa.update(clients).values(scopes=["send", "schedule"])
    await database.write(lambda connection: connection.execute(later))

    client = await store.client(KEY)

    assert client is not None
    assert client.scopes == {Scope.SEND}


async def test_changes_and_keys_count_at_once_for_every_replica(
    database: Database, replica: Database
) -> None:
    """A change, a further key and a removed key hold at once in all replicas."""
    ours, theirs, second = ClientStore(database), ClientStore(replica), ApiKey("shop", "k2")
    await ours.register(new(), {})
    assert await theirs.client(KEY) == SHOP
    assert await theirs.client(second) is None

    assert await ours.add_key(new(second)) is KeyAddition.ADDED
    assert await theirs.client(second) == SHOP
    await ours.change("shop", {"scopes": [Scope.READ]})
    assert [await theirs.client(each) for each in (KEY, second)] == [
        Client("shop", scopes={Scope.READ})
    ] * 2
    assert await ours.remove_key(KEY)
    assert await theirs.client(KEY) is None
    assert await theirs.client(second) is not None


async def test_a_client_has_two_keys_at_most(database: Database, replica: Database) -> None:
    """Of further keys at once, at two replicas, one is added; another client has its own."""
    stores = [ClientStore(each) for each in (database, replica)]
    await stores[0].register(new(), {})
    await stores[0].register(new(ApiKey("bank", "b1")), {})

    added = await asyncio.gather(
        *(stores[n % 2].add_key(new(ApiKey("shop", f"n{n}"))) for n in range(8))
    )

    assert added.count(KeyAddition.ADDED) == 1
    assert added.count(KeyAddition.TOO_MANY) == 7
    assert await stores[0].add_key(new(ApiKey("bank", "b2"))) is KeyAddition.ADDED
    assert await stores[0].add_key(new(ApiKey("pub", "p1"))) is KeyAddition.NO_CLIENT


async def test_an_expired_key_gives_way_to_a_new_one(database: Database) -> None:
    """An expired key is not counted, and is removed when another is added."""
    store, day = ClientStore(database), timedelta(days=1)
    await store.register(new(lifetime=day), {})
    assert await store.add_key(new(ApiKey("shop", "k2"))) is KeyAddition.ADDED
    third = ApiKey("shop", "k3")

    assert await store.add_key(new(third, NOW + day - MOMENT)) is KeyAddition.TOO_MANY
    assert await store.add_key(new(third, NOW + day)) is KeyAddition.ADDED

    found = await store.get("shop")
    assert found is not None
    assert [each.id for each in found.keys] == ["k2", "k3"]


async def test_a_removed_key_stays_removed(database: Database) -> None:
    """A removed key is no key, at replicas of the version before either."""
    store = ClientStore(database)
    await store.register(new(), {})

    assert await store.remove_key(KEY)
    assert not await store.remove_key(KEY)
    assert not await store.remove_key(ApiKey("bank", "k1"))

    assert await store.client(KEY) is None
    assert await database.read(lambda c: c.scalar(sa.select(clients.c.key_id))) == ""
    assert await store.add_key(new(ApiKey("shop", "k2"))) is KeyAddition.ADDED


async def test_the_clients_are_listed_by_id(database: Database) -> None:
    """A page has the clients after an id, with their keys, the oldest first."""
    store = ClientStore(database)
    for number in (3, 1, 2):
        await store.register(new(ApiKey(f"c{number}", f"k{number}")), {})
    await store.add_key(new(ApiKey("c2", "a"), NOW + MOMENT))

    page = await store.page("c1", 5)

    assert [each.client.id for each in page] == ["c2", "c3"]
    assert page[0].keys == [
        KeyRecord("k2", NOW, NOW + YEAR),
        KeyRecord("a", NOW + MOMENT, NOW + MOMENT + YEAR),
    ]
    assert [each.client.id for each in await store.page("", 2)] == ["c1", "c2"]
    assert await store.page("c3", 2) == []
    assert await store.get("c4") is None


async def test_the_day_of_a_keys_last_use_is_stored(database: Database) -> None:
    """A key has the day of its last use, by one write a day; a refused key has none."""
    now = NOW
    store = ClientStore(database, lambda: now)
    await store.register(new(), {})
    await store.add_key(new(ApiKey("shop", "k2")))

    async def days() -> list[date | None]:
        await store.store_uses()
        found = await store.get("shop")
        assert found is not None
        return [each.last_used_on for each in found.keys]

    assert await days() == [None, None]
    await store.client(KEY)
    await store.client(ApiKey("shop", "k9"))
    assert await days() == [date(2026, 11, 1), None]
    now += timedelta(days=1)
    assert await days() == [date(2026, 11, 1), None]
    await store.client(KEY)
    assert await days() == [date(2026, 11, 2), None]


async def test_a_use_is_written_once_a_day(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further uses on a day cause no write; one that failed is made good at the next use."""
    store = ClientStore(database, lambda: NOW)
    await store.register(new(), {})
    writes, write, is_down = 0, database.write, True

    async def counted(work: Callable[[sa.Connection], Any]) -> Any:  # noqa: ANN401 -- as `write`
        nonlocal writes
        writes += 1
        if is_down:
            raise ConnectionError
        return await write(work)

    monkeypatch.setattr(database, "write", counted)
    await store.client(KEY)
    with pytest.raises(StoreUnavailable):
        await store.store_uses()
    is_down = False
    for _ in range(3):
        await store.client(KEY)
        await store.store_uses()

    assert writes == 2


async def test_an_older_day_changes_nothing(database: Database, replica: Database) -> None:
    """The last day stands, whichever replica writes first."""
    late = ClientStore(database, lambda: NOW)
    early = ClientStore(replica, lambda: NOW - timedelta(days=1))
    await late.register(new(), {})
    for store in (late, early):
        await store.client(KEY)
        await store.store_uses()

    found = await late.get("shop")

    assert found is not None
    assert found.keys[0].last_used_on == NOW.date()


async def test_a_removal_waits_until_it_is_announced(database: Database, replica: Database) -> None:
    """With the registration that ended, whatever is registered afterwards; a repeat is no other."""
    store, other, at = ClientStore(database, lambda: NOW + YEAR), ClientStore(replica), NOW + MOMENT
    await store.register(new(at=at), {})
    await store.revoke("shop")
    await store.revoke("shop")
    await store.register(new(ApiKey("shop", "k2"), NOW + YEAR), {})
    [event] = await other.unannounced()
    again = await store.unannounced()
    await other.announced(event)

    assert (event.client, event.registered_at, event.at) == ("shop", at, NOW + YEAR)
    assert again == [event]
    assert await store.unannounced() == []
