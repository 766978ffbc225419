"""The store of clients with their keys."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum, auto
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from services.gateway.clients.clients import (
    MAX_LIVE_KEYS,
    AllowedSenders,
    Client,
    ClientSettings,
    KeyRecord,
    RegisteredClient,
)
from services.gateway.clients.keys import ApiKey
from services.gateway.clients.tables import (
    bounded,
    client_keys,
    clients,
    removals,
    revision,
)
from shared.batch import Batcher
from shared.client_address import parse_network
from shared.contracts.clients import ClientRemoved, Scope
from shared.storage.database import Database

_SETTINGS = (
    clients.c.id,
    clients.c.senders,
    clients.c.scopes,
    clients.c.networks,
    clients.c.expires_at,
    clients.c.created_at,
)
_CLIENTS_OF_KEYS = (
    sa.select(client_keys.c.id.label("key_id"), *_SETTINGS)
    .join(clients, clients.c.id == client_keys.c.client)
    .where(client_keys.c.client.in_(sa.bindparam("clients", expanding=True)))
)
_REVISION = str(sa.select(revision.c.number))
_NO_KEY = ""  # in `clients.key_id`; no key has this id


class KeyAddition(Enum):
    """The result of adding a key."""

    ADDED = auto()
    NO_CLIENT = auto()
    TOO_MANY = auto()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be stored, without the token."""

    key: ApiKey
    created_at: datetime
    expires_at: datetime


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class ClientStore:
    """Reads and writes the clients. Every method raises StoreUnavailable after STORE_SECONDS."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._reads = Batcher(self._read_all)
        self._revision: int | None = None
        self._known: dict[ApiKey, Client | None] = {}  # as of that revision
        self._used: dict[ApiKey, date] = {}  # that are not yet stored
        self._stored_uses: dict[ApiKey, date] = {}

    async def client(self, key: ApiKey) -> Client | None:
        """Return the client of a key, None when it has no such key, and note the key's use.

        The memory answers only while clients and keys are unchanged, so that a revocation counts.
        """
        known = self._remembered()
        if key not in known:
            known[key] = await self._reads.add(key)
        client = known[key]
        if client is not None:
            self._note_use(key)
        return client

    async def register(self, new: NewKey, settings: ClientSettings) -> bool:
        """Add a client with its first key; return False when the client exists."""
        row = {
            "id": new.key.client,
            "key_id": new.key.id,
            "created_at": new.created_at,
            **settings,
        }

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.insert(clients).values(row))
            connection.execute(_insert_key(new))

        async with bounded():
            try:
                await self._database.write(work)
            except sa.exc.IntegrityError:
                return False
        return True

    async def get(self, client: str) -> RegisteredClient | None:
        """Return a client with its keys, None when there is none of that id."""
        query = sa.select(clients).where(clients.c.id == client)
        async with bounded():
            found = await self._database.read(lambda c: _registered(c, query))
        return found[0] if found else None

    async def page(self, after: str, limit: int) -> Sequence[RegisteredClient]:
        """Return up to `limit` clients after an id, by their ids."""
        query = sa.select(clients).where(clients.c.id > after).order_by(clients.c.id).limit(limit)
        async with bounded():
            return await self._database.read(lambda c: _registered(c, query))

    async def change(
        self, client: str, settings: ClientSettings, known: Collection[Client] = ()
    ) -> bool:
        """Set at least one of the settings; return False when there is no such client.

        With `known`, the client must equal one of these, else nothing is changed.
        """
        locked = sa.select(*_SETTINGS).where(clients.c.id == client).with_for_update()
        changed = sa.update(clients).where(clients.c.id == client).values(dict(settings))

        def work(connection: sa.Connection) -> bool:
            row = connection.execute(locked).first()
            if row is None or (known and _client(row) not in known):
                return False
            connection.execute(changed)
            return True

        async with bounded():
            return await self._database.write(work)

    async def revoke(self, client: str) -> bool:
        """Remove a client and its keys; return False when there is no client of that id.

        The event of it is in the same transaction, until it is announced.
        """
        gone = sa.delete(clients).where(clients.c.id == client).returning(clients.c.created_at)

        def work(connection: sa.Connection) -> bool:
            registered_at = connection.scalar(gone)
            if registered_at is None:
                return False
            row = {"id": str(uuid4()), "client": client, "registered_at": registered_at}
            connection.execute(sa.insert(removals).values({**row, "removed_at": self._clock()}))
            return True

        async with bounded():
            return await self._database.write(work)

    async def unannounced(self) -> Sequence[ClientRemoved]:
        """Return the events of removals that are not announced, the oldest first."""
        look = sa.select(removals).order_by(removals.c.removed_at)
        async with bounded():
            rows = await self._database.read(lambda c: c.execute(look).all())
        return [
            ClientRemoved(
                id=row.id, at=row.removed_at, client=row.client, registered_at=row.registered_at
            )
            for row in rows
        ]

    async def announced(self, event: ClientRemoved) -> None:
        """Note that an event was published."""
        done = sa.delete(removals).where(removals.c.id == event.id)
        async with bounded():
            await self._database.write(lambda c: c.execute(done))

    async def add_key(self, new: NewKey) -> KeyAddition:
        """Add a key, and remove those that have expired."""
        async with bounded():
            return await self._database.write(lambda c: _add_key(c, new))

    async def remove_key(self, key: ApiKey) -> bool:
        """Remove a key; return False when its client has no such key."""
        gone = sa.delete(client_keys).where(*_row_of(key))
        first = sa.update(clients).where(clients.c.id == key.client, clients.c.key_id == key.id)

        def work(connection: sa.Connection) -> bool:
            connection.execute(first.values(key_id=_NO_KEY))
            return connection.execute(gone).rowcount > 0

        async with bounded():
            return await self._database.write(work)

    async def store_uses(self) -> None:
        """Store the days on which keys were used: one write a day for each key."""
        used, self._used = self._used, {}
        if not used:
            return
        # In one order at every gateway: two that lock the same rows do not wait for each other.
        rows = [
            {"of_client": key.client, "of_id": key.id, "day": day}
            for key, day in sorted(used.items(), key=lambda item: (item[0].client, item[0].id))
        ]
        async with bounded():
            await self._database.write(lambda c: c.execute(_USE, rows))
        self._stored_uses |= used

    def _note_use(self, key: ApiKey) -> None:
        today = self._clock().date()
        if self._stored_uses.get(key) != today:
            self._used[key] = today

    def _remembered(self) -> dict[ApiKey, Client | None]:
        number = self._database.glance(_REVISION)
        if number is None or number != self._revision:
            # A new dict: a query that is under way may return rows older than this revision.
            self._known, self._revision = {}, number
        return self._known

    async def _read_all(self, keys: Sequence[ApiKey]) -> Sequence[Client | None]:
        named = {"clients": sorted({key.client for key in keys})}
        async with bounded():
            rows = await self._database.read_inline(
                lambda c: c.execute(_CLIENTS_OF_KEYS, named).all()
            )
        found = {ApiKey(row.id, row.key_id): _client(row) for row in rows}
        return [found.get(key) for key in keys]


_USE = (
    sa.update(client_keys)
    .where(
        client_keys.c.client == sa.bindparam("of_client"),
        client_keys.c.id == sa.bindparam("of_id"),
        sa.or_(
            client_keys.c.last_used_on.is_(None), client_keys.c.last_used_on < sa.bindparam("day")
        ),
    )
    .values(last_used_on=sa.bindparam("day"))
)


def _client(row: sa.Row[*tuple[Any, ...]]) -> Client:
    # A scope that only a later version knows is none here.
    scopes = (each for each in Scope if each in row.scopes) if row.scopes is not None else Scope
    return Client(
        row.id,
        AllowedSenders(row.senders),
        frozenset(scopes),
        None if row.networks is None else [*map(parse_network, row.networks)],
        row.expires_at,
        row.created_at,
    )


def _registered(connection: sa.Connection, query: sa.Select[Any]) -> Sequence[RegisteredClient]:
    rows = connection.execute(query).all()
    found = sa.select(client_keys).where(client_keys.c.client.in_([row.id for row in rows]))
    keys: dict[str, list[KeyRecord]] = {row.id: [] for row in rows}
    for key in connection.execute(found.order_by(client_keys.c.created_at, client_keys.c.id)):
        record = KeyRecord(key.id, key.created_at, key.expires_at, key.last_used_on)
        keys[key.client].append(record)
    return [RegisteredClient(_client(row), row.created_at, keys[row.id]) for row in rows]


def _add_key(connection: sa.Connection, new: NewKey) -> KeyAddition:
    # Locked: of two further keys at once, at two gateways, the second would not see the first.
    locked = sa.select(clients.c.id).where(clients.c.id == new.key.client).with_for_update()
    if connection.execute(locked).first() is None:
        return KeyAddition.NO_CLIENT
    of_client = client_keys.c.client == new.key.client
    connection.execute(
        sa.delete(client_keys).where(of_client, client_keys.c.expires_at <= new.created_at)
    )
    count = connection.scalar(sa.select(sa.func.count()).where(of_client)) or 0
    if count >= MAX_LIVE_KEYS:
        return KeyAddition.TOO_MANY
    connection.execute(_insert_key(new))
    return KeyAddition.ADDED


def _insert_key(new: NewKey) -> sa.Insert:
    return sa.insert(client_keys).values(
        client=new.key.client,
        id=new.key.id,
        created_at=new.created_at,
        expires_at=new.expires_at,
    )


def _row_of(key: ApiKey) -> Sequence[sa.ColumnElement[bool]]:
    return client_keys.c.client == key.client, client_keys.c.id == key.id
