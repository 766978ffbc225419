"""The clients, in SQLite and in PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops import ports
from services.gateway.keys import Key
from services.gateway.store import MIGRATIONS, ClientStore, StoreAway
from shared.database import Database, Server

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = Key("shop", "k1")


@pytest.fixture
async def database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Open a database for one test."""
    async with Database.open("gateway", database_url, tmp_path, MIGRATIONS) as opened:
        yield opened


async def test_a_registered_key_is_current(database: Database) -> None:
    """A key is current for its client from its registration on, and for nobody else."""
    store = ClientStore(database)

    assert not await store.is_current(KEY)
    assert await store.register(KEY, NOW)
    assert await store.is_current(KEY)
    assert not await store.is_current(Key("bank", "k1"))
    assert not await store.is_current(Key("shop", "k2"))


async def test_a_client_is_registered_once(database: Database) -> None:
    """A second registration changes nothing."""
    store = ClientStore(database)
    await store.register(KEY, NOW)

    assert not await store.register(Key("shop", "k2"), NOW)
    assert await store.is_current(KEY)


async def test_a_revoked_key_is_current_no_more_even_for_a_new_client_of_that_id(
    database: Database,
) -> None:
    """What was revoked stays revoked."""
    store = ClientStore(database)
    await store.register(KEY, NOW)

    assert await store.revoke("shop")
    assert not await store.is_current(KEY)
    assert not await store.revoke("shop")

    assert await store.register(Key("shop", "k2"), NOW)
    assert not await store.is_current(KEY)


async def test_a_revocation_counts_at_once_for_every_replica(
    database: Database, database_url: str | None, tmp_path: Path
) -> None:
    """No replica keeps a key in its memory."""
    async with Database.open("gateway", database_url, tmp_path, MIGRATIONS) as second:
        ours, theirs = ClientStore(database), ClientStore(second)
        await ours.register(KEY, NOW)
        assert await theirs.is_current(KEY)

        await ours.revoke("shop")

        assert not await theirs.is_current(KEY)


async def test_a_database_that_is_away_is_told_as_such() -> None:
    """Nobody is let by unchecked, and the gateway can tell its client to try again."""
    [nowhere] = ports.unused(1)
    server = Server(f"postgresql+asyncpg://127.0.0.1:{nowhere}/x", "gateway")
    store = ClientStore(Database(server))

    with pytest.raises(StoreAway):
        await store.is_current(KEY)
    with pytest.raises(StoreAway):
        await store.register(KEY, NOW)
