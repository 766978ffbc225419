"""The work on whole tables: backlogs, disabled endpoints, and what is old or to be forgotten."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from services.webhooks.attempts import LATEST_SECONDS, State
from services.webhooks.store.endpoints import MILLISECOND, moment
from services.webhooks.store.tables import (
    deliveries,
    endpoints,
    messages,
    removed,
    removed_clients,
    tries,
)
from shared.contracts import DisabledFor, WebhookDisabled
from shared.runtime.sealing import fold
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

MAX_WAITING = 1000  # events that are due, or will be, at one endpoint; the others are parked
PURGE_ROWS = 500  # of a transaction
# In which a service that read the endpoints before the deletion keeps no event for one any more,
# and a gateway that knew a client before its removal asks for no further endpoint of it.
REMOVED_SPAN = timedelta(hours=1)
_DELIVERY = deliveries.c
_ENDPOINT = endpoints.c


class UpkeepStore:
    """The work on whole tables. Every method raises Retry without the database.

    Each is harmless if several replicas do it at once.
    """

    def __init__(self, database: Database, keep_days: int, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the webhooks")
        self._keep = timedelta(days=keep_days) // MILLISECOND
        self._clock = clock

    async def spread(self) -> int:
        """Make parked events due where there is room; return how many.

        An endpoint that fails has one event at a time, which shows whether it works again.
        """
        rows = await self._database.read(lambda c: c.execute(_BACKLOGS).all())
        count = 0
        for row in rows:
            room = (MAX_WAITING if row.failures == 0 else 1) - row.waiting
            if room > 0:
                count += await self._database.write(lambda c: self._unpark(c, row.id, room))  # noqa: B023 -- awaited here
        return count

    async def limit_waiting(self) -> None:
        """Park what is beyond MAX_WAITING events of an endpoint, and note which have a backlog."""
        for row in await self._database.read(lambda c: c.execute(_UNNOTED).all()):
            await self._database.write(lambda c: _park_excess(c, row.id))  # noqa: B023 -- awaited here

    async def bring_forward(self) -> int:
        """Make due what is due later than a next try can be; return how many events.

        A clock was put back since that was planned. What a service has taken stays its own for
        LATEST_SECONDS, in which it ends its tries or is dead.
        """
        return await self._database.write(self._bring_forward)

    async def unannounced(self) -> Sequence[WebhookDisabled]:
        """Return the events of endpoints that were disabled, each with the same id every time."""
        look = sa.select(endpoints).where(sa.not_(_ENDPOINT.announced))
        return [*map(_disabled, await self._database.read(lambda c: c.execute(look).all()))]

    async def announced(self, event: WebhookDisabled) -> None:
        """Note that an event was published."""
        change = sa.update(endpoints).where(
            _ENDPOINT.id == event.webhook_id, _ENDPOINT.disabled_for == event.reason
        )
        await self._database.write(lambda c: c.execute(change.values(announced=True)))

    async def purge(self) -> int:
        """Delete events that were kept long enough, and what endpoints left; return how many."""
        old = await self._database.write_all(self._purge_old)
        for row in await self._database.read(lambda c: c.execute(sa.select(removed)).all()):
            old += await self._database.write_all(lambda c: _purge_of(c, row.endpoint_id))  # noqa: B023 -- awaited here
            await self._database.write(lambda c: self._end_removal(c, row.endpoint_id))  # noqa: B023 -- awaited here
        await self._database.write(self._end_client_removals)
        return old

    async def forget(self, email: str) -> int:
        """Delete every event about an address, and its tries; return how many events."""
        look = sa.select(messages.c.message_id).where(messages.c.address == fold(email))
        count = await self._database.write_all(
            lambda c: _delete_messages(c, c.scalars(look.limit(PURGE_ROWS)).all())
        )
        if count:
            await self._database.empty_log()
        return count

    def _unpark(self, connection: sa.Connection, endpoint_id: str, room: int) -> int:
        now = dialect.read_now(connection, self._clock)
        chosen = sa.select(_DELIVERY.message_id).where(*_parked(endpoint_id))
        change = sa.update(deliveries).where(
            *_parked(endpoint_id),
            _DELIVERY.message_id.in_(chosen.order_by(_DELIVERY.at).limit(room)),
        )
        count = connection.execute(change.values(state=State.WAITING, due_at=now)).rowcount
        if count < room:
            done = sa.update(endpoints).where(_ENDPOINT.id == endpoint_id, _ENDPOINT.failures == 0)
            connection.execute(done.values(backlogged=False))
        return count

    def _bring_forward(self, connection: sa.Connection) -> int:
        now = dialect.read_now(connection, self._clock)
        latest = now + round(LATEST_SECONDS * dialect.MILLISECONDS_PER_SECOND)
        planned = sa.update(deliveries).where(_DELIVERY.due_at > latest)
        due_at = sa.case((_DELIVERY.token.is_(None), now), else_=latest)
        return connection.execute(planned.values(due_at=due_at)).rowcount

    def _purge_old(self, connection: sa.Connection) -> int:
        cutoff = dialect.read_now(connection, self._clock) - self._keep
        look = sa.select(messages.c.message_id).where(messages.c.kept_at < cutoff)
        return _delete_messages(connection, connection.scalars(look.limit(PURGE_ROWS)).all())

    def _end_removal(self, connection: sa.Connection, endpoint_id: str) -> None:
        cutoff = dialect.read_now(connection, self._clock) - REMOVED_SPAN // MILLISECOND
        done = sa.delete(removed).where(removed.c.endpoint_id == endpoint_id)
        connection.execute(done.where(removed.c.at < cutoff))

    def _end_client_removals(self, connection: sa.Connection) -> None:
        cutoff = dialect.read_now(connection, self._clock) - REMOVED_SPAN // MILLISECOND
        connection.execute(sa.delete(removed_clients).where(removed_clients.c.at < cutoff))


_WAITING = (
    sa.select(sa.func.count())
    .select_from(deliveries)
    .where(_DELIVERY.endpoint_id == _ENDPOINT.id, _DELIVERY.state == State.WAITING)
    .scalar_subquery()
)
_BACKLOGS = sa.select(_ENDPOINT.id, _ENDPOINT.failures, _WAITING.label("waiting")).where(
    _ENDPOINT.backlogged, _ENDPOINT.disabled_at.is_(None)
)
_UNNOTED = sa.select(_ENDPOINT.id).where(
    sa.not_(_ENDPOINT.backlogged),
    _ENDPOINT.disabled_at.is_(None),
    sa.or_(
        _WAITING > MAX_WAITING,
        sa.exists().where(_DELIVERY.endpoint_id == _ENDPOINT.id, _DELIVERY.state == State.PARKED),
    ),
)


def _parked(endpoint_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _DELIVERY.endpoint_id == endpoint_id, _DELIVERY.state == State.PARKED


def _park_excess(connection: sa.Connection, endpoint_id: str) -> None:
    waits = (
        _DELIVERY.endpoint_id == endpoint_id,
        _DELIVERY.state == State.WAITING,
        sa.not_(_DELIVERY.once),
    )
    # SQLite has no OFFSET without a LIMIT.
    first = sa.select(_DELIVERY.message_id).where(*waits).order_by(_DELIVERY.at)
    change = sa.update(deliveries).where(
        *waits, _DELIVERY.token.is_(None), _DELIVERY.message_id.not_in(first.limit(MAX_WAITING))
    )
    connection.execute(change.values(state=State.PARKED, due_at=None))
    noted = sa.update(endpoints).where(_ENDPOINT.id == endpoint_id)
    connection.execute(noted.values(backlogged=True))


def _purge_of(connection: sa.Connection, endpoint_id: str) -> int:
    look = sa.select(_DELIVERY.message_id).where(_DELIVERY.endpoint_id == endpoint_id)
    found = connection.scalars(look.limit(PURGE_ROWS)).all()
    for table in (tries, deliveries):
        here = (table.c.endpoint_id == endpoint_id, table.c.message_id.in_(found))
        connection.execute(sa.delete(table).where(*here))
    return len(found)


def _delete_messages(connection: sa.Connection, found: Sequence[str]) -> int:
    for table in (tries, deliveries, messages):
        connection.execute(sa.delete(table).where(table.c.message_id.in_(found)))
    return len(found)


def _disabled(row: sa.Row[Any]) -> WebhookDisabled:
    return WebhookDisabled(
        id=f"{row.id[:60]}.{row.disabled_at}",
        at=moment(row.disabled_at),
        webhook_id=row.id,
        client=row.client or None,
        url=row.url,
        reason=DisabledFor(row.disabled_for),
    )
