"""The gateway's tables, in SQLite and in PostgreSQL."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import sqlalchemy as sa

from services.gateway.clients.clients import ALL_SCOPES
from services.gateway.clients.keys import ApiKey
from services.gateway.clients.store import ClientStore
from services.gateway.clients.tables import MIGRATIONS, clients, metadata
from tests.databases import Opener, differences

BEFORE_KEYS = ("0001", "0002", "0003")  # the versions in which each client had one key


async def test_the_migrations_make_the_tables(open_database: Opener) -> None:
    """The tables that the stores write to are those that the migrations make."""
    assert await differences(await open_database("gateway", MIGRATIONS), metadata) == []


async def test_a_client_of_the_version_before_keeps_its_key_and_all_rights(
    open_database: Opener, tmp_path: Path
) -> None:
    """After the migration a client has its key, all scopes, any network and no end."""
    before = tmp_path / "before"
    before.mkdir()
    for each in MIGRATIONS.glob("*.py"):
        if re.match("|".join(BEFORE_KEYS), each.name):
            (before / each.name).write_text(each.read_text())
    old = await open_database("gateway", before)
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    row = {"id": "shop", "key_id": "k1", "created_at": at, "senders": ["@shop.example"]}
    await old.write(lambda c: c.execute(sa.insert(clients).values(row)))

    store = ClientStore(await open_database("gateway", MIGRATIONS))
    client, found = await store.client(ApiKey("shop", "k1")), await store.get("shop")

    assert client is not None
    assert found is not None
    assert found.client == client
    assert (client.scopes, client.networks, client.expires_at) == (ALL_SCOPES, None, None)
    assert client.allowed_senders.senders == ["@shop.example"]
    assert [(each.id, each.created_at, each.expires_at) for each in found.keys] == [
        ("k1", at, None)
    ]


async def test_a_time_is_the_same_moment_in_any_offset(open_database: Opener) -> None:
    """A time that was written with another offset is read as the same moment, in UTC."""
    database = await open_database("gateway", MIGRATIONS)
    at = datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    row = {"id": "shop", "key_id": "k1", "created_at": at}
    await database.write(lambda c: c.execute(sa.insert(clients).values(row)))

    found = await database.read(lambda c: c.scalar(sa.select(clients.c.created_at)))

    assert found == at
    assert found.utcoffset() == timedelta()
