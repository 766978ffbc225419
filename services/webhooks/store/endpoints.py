"""The endpoints in the database."""

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from services.webhooks.attempts import State
from services.webhooks.signing import SECRET_BYTES, secret_text
from services.webhooks.store.tables import deliveries, endpoints, removed, removed_clients
from shared.contracts import (
    ChangeWebhook,
    ClientRemoved,
    CreateWebhook,
    DisabledFor,
    ListWebhooks,
    RotateWebhookSecret,
    Webhook,
    WebhookResult,
)
from shared.contracts.fields import EPOCH
from shared.runtime.sealing import Sealer
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

_CREATE_LOCK = 0x776562686F6F6B73  # any number: while endpoints are counted, none is added
MILLISECOND = timedelta(milliseconds=1)
_LISTS = ("events", "categories", "tags")
_TABLE = endpoints.c


class Changed(NamedTuple):
    """The result of a change, the endpoint if there is one, and its secret if that is new."""

    result: WebhookResult
    webhook: Webhook | None = None
    secret: str | None = None


class EndpointStore:
    """The endpoints of clients. Every method raises Retry without the database.

    `client` is None for the administrator, who sees the endpoints of all.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        max_endpoints: int,
        clock: Clock = dialect.now,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._database = HandlerDatabase(database, "the endpoints")
        self._sealer = sealer
        self._max_endpoints = max_endpoints
        self._clock = clock
        self._random = random

    async def create(self, asked: CreateWebhook) -> Changed:
        """Add an endpoint with a new secret. The same question again replaces the secret."""
        return await self._database.write(lambda c: self._create(c, asked))

    async def change(self, asked: ChangeWebhook) -> Changed:
        """Change an endpoint, and enable or disable it."""
        return await self._database.write(lambda c: self._change(c, asked))

    async def rotate(self, asked: RotateWebhookSecret) -> Changed:
        """Add a new secret; the one before ends after a time."""
        return await self._database.write(lambda c: self._rotate(c, asked))

    async def find(self, client: str | None, webhook_id: str) -> Webhook | None:
        """Return an endpoint."""
        return await self._database.read(lambda c: find(c, client, webhook_id))

    async def page(self, asked: ListWebhooks) -> tuple[Sequence[Webhook], str | None]:
        """Return a page by id, and the cursor of the next one."""
        look = sa.select(endpoints).order_by(_TABLE.id).limit(asked.limit + 1)
        if asked.client is not None:
            look = look.where(_TABLE.client == asked.client)
        if asked.failing:
            by_failures = _TABLE.disabled_for.in_([DisabledFor.GONE, DisabledFor.FAILING])
            is_failing = sa.and_(_TABLE.disabled_at.is_(None), _TABLE.failing_since.is_not(None))
            look = look.where(sa.or_(by_failures, is_failing))
        if asked.after is not None:
            look = look.where(_TABLE.id > asked.after)
        rows = await self._database.read(lambda c: c.execute(look).all())
        found = [*map(_webhook, rows[: asked.limit])]
        return found, found[-1].webhook_id if len(rows) > len(found) else None

    async def delete(self, client: str | None, webhook_id: str) -> bool:
        """Delete an endpoint; the purge deletes what belongs to it. Return whether it was there."""
        return await self._database.write(lambda c: self._delete(c, client, webhook_id))

    async def remove_client(self, event: ClientRemoved) -> Sequence[str]:
        """Delete the endpoints of a client that was removed; return their ids.

        A client that was registered later with the same id keeps its own.
        """
        return await self._database.write(lambda c: self._remove_client(c, event))

    def _create(self, connection: sa.Connection, asked: CreateWebhook) -> Changed:
        dialect.lock(connection, _CREATE_LOCK, alone=True)
        client, identifier = asked.client or "", asked.id
        registered_at = None if asked.registered_at is None else milliseconds(asked.registered_at)
        if registered_at is not None and _is_removed(connection, client, registered_at):
            return Changed(WebhookResult.NO_CLIENT)
        count = sa.select(sa.func.count()).where(_TABLE.client == client, _TABLE.id != identifier)
        if (connection.scalar(count) or 0) >= self._max_endpoints:
            return Changed(WebhookResult.TOO_MANY)
        now = dialect.read_now(connection, self._clock)
        secret = self._random(SECRET_BYTES)
        values = {
            **{name: orjson.dumps(getattr(asked, name)).decode() for name in _LISTS},
            "id": identifier,
            "client": client,
            "url": asked.url,
            "description": asked.description,
            "secret": self._sealer.seal(secret, identifier),
            "created_at": now,
            "changed_at": now,
            "announced": True,
            "failures": 0,
            "backlogged": False,
            "registered_at": registered_at,
        }
        insert = dialect.insert(connection, endpoints).values(values)
        replace = {"secret": insert.excluded.secret}
        connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=replace))
        found = find(connection, asked.client, identifier)
        return Changed(WebhookResult.CREATED, found, secret_text(secret))

    def _delete(self, connection: sa.Connection, client: str | None, webhook_id: str) -> bool:
        remove = sa.delete(endpoints).where(*_is(client, webhook_id))
        if not connection.execute(remove).rowcount:
            return False
        values = {"endpoint_id": webhook_id, "at": dialect.read_now(connection, self._clock)}
        connection.execute(sa.insert(removed).values(values))
        return True

    def _remove_client(self, connection: sa.Connection, event: ClientRemoved) -> Sequence[str]:
        # An endpoint that is being added is there before this, or refused after it.
        dialect.lock(connection, _CREATE_LOCK, alone=True)
        now, registered_at = (
            dialect.read_now(connection, self._clock),
            milliseconds(event.registered_at),
        )
        values = {"client": event.client, "registered_at": registered_at, "at": now}
        insert = dialect.insert(connection, removed_clients).values(values)
        newer = insert.excluded.registered_at > removed_clients.c.registered_at
        latest = sa.case(
            (newer, insert.excluded.registered_at), else_=removed_clients.c.registered_at
        )
        again = {"registered_at": latest, "at": now}
        connection.execute(insert.on_conflict_do_update(index_elements=["client"], set_=again))
        own = sa.or_(_TABLE.registered_at.is_(None), _TABLE.registered_at <= registered_at)
        remove = sa.delete(endpoints).where(_TABLE.client == event.client, own)
        ids = connection.scalars(remove.returning(_TABLE.id)).all()
        if ids:
            gone = [{"endpoint_id": each, "at": now} for each in ids]
            connection.execute(sa.insert(removed), gone)
        return ids

    def _change(self, connection: sa.Connection, asked: ChangeWebhook) -> Changed:
        found = find(connection, asked.client, asked.webhook_id, lock=True)
        if found is None:
            return Changed(WebhookResult.UNKNOWN)
        now = dialect.read_now(connection, self._clock)
        values: dict[str, Any] = {
            name: value
            for name in ("url", "description")
            if (value := getattr(asked, name)) is not None
        }
        for name in _LISTS:
            if (value := getattr(asked, name)) is not None:
                values[name] = orjson.dumps(value).decode()
        is_enabled = found.disabled_at is None
        if is_enabled and values.get("url", found.url) != found.url:
            # The failures are those of another receiver.
            values |= {"failures": 0, "failing_since": None}
            _hasten(connection, found.webhook_id, now)
        if asked.enabled is not None and asked.enabled is not is_enabled:
            values |= _switched(now, enable=asked.enabled)
            park(connection, found.webhook_id, held=asked.enabled)
        change = sa.update(endpoints).where(_TABLE.id == found.webhook_id)
        connection.execute(change.values(changed_at=now, **values))
        return Changed(WebhookResult.CHANGED, find(connection, asked.client, asked.webhook_id))

    def _rotate(self, connection: sa.Connection, asked: RotateWebhookSecret) -> Changed:
        found = find(connection, asked.client, asked.webhook_id, lock=True)
        if found is None:
            return Changed(WebhookResult.UNKNOWN)
        now = dialect.read_now(connection, self._clock)
        old = sa.select(_TABLE.old_until).where(_TABLE.id == found.webhook_id)
        if asked.old_seconds and (connection.scalar(old) or 0) > now:
            return Changed(WebhookResult.TOO_MANY_SECRETS, found)
        secret = self._random(SECRET_BYTES)
        values: dict[str, Any] = {"secret": self._sealer.seal(secret, found.webhook_id)}
        values |= {"old_secret": None, "old_until": None, "changed_at": now}
        if asked.old_seconds:
            values |= {"old_secret": _TABLE.secret}
            values |= {"old_until": now + round(asked.old_seconds * 1000)}
        connection.execute(sa.update(endpoints).where(_TABLE.id == found.webhook_id).values(values))
        found = find(connection, asked.client, asked.webhook_id)
        return Changed(WebhookResult.CHANGED, found, secret_text(secret))


def _is_removed(connection: sa.Connection, client: str, registered_at: int) -> bool:
    table = removed_clients.c
    look = sa.select(table.client).where(
        table.client == client, table.registered_at >= registered_at
    )
    return connection.execute(look).first() is not None


def find(
    connection: sa.Connection, client: str | None, webhook_id: str, *, lock: bool = False
) -> Webhook | None:
    """Return an endpoint, perhaps locked until the end of the transaction."""
    look = sa.select(endpoints).where(*_is(client, webhook_id))
    row = connection.execute(look.with_for_update() if lock else look).first()
    return None if row is None else _webhook(row)


def park(connection: sa.Connection, endpoint_id: str, *, held: bool) -> None:
    """Send nothing that waits for an endpoint; `held` until it is replayed, else for a time.

    What is under way goes on, and is looked at when it ends.
    """
    table = deliveries.c
    waits = (State.WAITING, State.PARKED) if held else (State.WAITING,)
    connection.execute(
        sa.update(deliveries)
        .where(
            table.endpoint_id == endpoint_id,
            table.state.in_(waits),
            table.token.is_(None),
            sa.not_(table.once),
        )
        .values(state=State.HELD if held else State.PARKED, due_at=None)
    )


def _hasten(connection: sa.Connection, endpoint_id: str, now: int) -> None:
    """Make due what waits for its next try; what is parked follows with the upkeep."""
    table = deliveries.c
    waits = (table.endpoint_id == endpoint_id, table.state == State.WAITING)
    later = sa.update(deliveries).where(*waits, table.token.is_(None), table.due_at > now)
    connection.execute(later.values(due_at=now))


def moment(value: int) -> datetime:
    """Return a time of the tables, in UTC."""
    return EPOCH + value * MILLISECOND


def milliseconds(value: datetime) -> int:
    """Return a time as the tables have it."""
    return (value.astimezone(UTC) - EPOCH) // MILLISECOND


def _switched(now: int, *, enable: bool) -> dict[str, Any]:
    if enable:
        none = dict.fromkeys(("disabled_at", "disabled_for", "failing_since"))
        return {**none, "failures": 0, "backlogged": False, "announced": True}
    return {"disabled_at": now, "disabled_for": DisabledFor.OWNER, "announced": True}


def _is(client: str | None, webhook_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    is_own = sa.true() if client is None else _TABLE.client == client
    return _TABLE.id == webhook_id, is_own


def _webhook(row: sa.Row[Any]) -> Webhook:
    fields = dict(row._mapping)  # noqa: SLF001 -- its public name
    times = {
        name: None if fields[column] is None else moment(fields[column])
        for name, column in {
            **{each: each for each in ("created_at", "changed_at", "disabled_at")},
            "failing_since": "failing_since",
            "old_secret_until": "old_until",
        }.items()
    }
    lists = {name: orjson.loads(fields[name]) for name in _LISTS}
    names = {"webhook_id": fields["id"], "client": fields["client"] or None}
    return Webhook.model_validate(fields | times | lists | names)
