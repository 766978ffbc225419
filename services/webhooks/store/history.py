"""The events and the tries of an endpoint as its owner sees them, and what is sent again."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from services.webhooks.attempts import State
from services.webhooks.messages import TEST_TYPE, body
from services.webhooks.store.endpoints import find, milliseconds, moment
from services.webhooks.store.tables import deliveries, endpoints, messages, tries
from shared.contracts import (
    DeliveryStatus,
    ListWebhookDeliveries,
    ListWebhookTries,
    ReplayWebhook,
    SendTestEvent,
    Webhook,
    WebhookDelivery,
    WebhookResult,
    WebhookTry,
)
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

REPLAY_ROWS = 1000  # of a transaction: others have their turn meanwhile
# The time and the id of an event, by which a replay goes through a span.
Place = tuple[int, str]
_BEGINNING: Place = (-1, "")  # before every event
_DELIVERY = deliveries.c
_TRY = tries.c
_STATUS = {
    State.WAITING: DeliveryStatus.WAITING,
    State.HELD: DeliveryStatus.HELD,
    State.DELIVERED: DeliveryStatus.DELIVERED,
    State.FAILED: DeliveryStatus.FAILED,
}
_STATES = {status: state for state, status in _STATUS.items()}


class HistoryPage(NamedTuple):
    """A page of deliveries or tries, and the cursor of the next one."""

    items: Sequence[Any]
    next: str | None


class ReplayedPiece(NamedTuple):
    """The number of events that are sent again, and the place of the last if there may be more."""

    events: int
    last: Place | None


class HistoryStore:
    """The deliveries and tries of endpoints. Every method raises Retry without the database.

    `client` is None for the administrator. None is returned for an endpoint that is not there.
    """

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the history of webhooks")
        self._clock = clock

    async def deliveries(self, asked: ListWebhookDeliveries) -> HistoryPage | None:
        """Return a page of deliveries, those of the newest events first."""
        return await self._database.read(lambda c: _deliveries(c, asked))

    async def tries(self, asked: ListWebhookTries) -> HistoryPage | None:
        """Return a page of tries, the newest first."""
        return await self._database.read(lambda c: _tries(c, asked))

    async def replay(self, asked: ReplayWebhook) -> tuple[WebhookResult, int]:
        """Send one event, or those of a span, again from now on; return how many.

        What is under way, or waits for its turn already, is not counted.
        """
        found = await self._database.read(lambda c: find(c, asked.client, asked.webhook_id))
        if found is None:
            return WebhookResult.UNKNOWN, 0
        if found.disabled_at is not None:
            return WebhookResult.DISABLED, 0
        if asked.message_id is not None:
            return await self._database.write(lambda c: self._replay_one(c, asked))
        return WebhookResult.FOUND, await self._replay_span(asked)

    async def send_test(self, asked: SendTestEvent) -> str | None:
        """Send a test, once, whether or not the endpoint is disabled; return its webhook-id."""
        return await self._database.write(lambda c: self._send_test(c, asked))

    async def _replay_span(self, asked: ReplayWebhook) -> int:
        """Replay in pieces; what was sent meanwhile is behind them, and not sent a second time."""
        count, after = 0, _BEGINNING
        while True:
            piece = await self._database.write(partial(_replay, asked=asked, after=after))
            count += piece.events
            if piece.last is None:
                return count
            after = piece.last

    def _replay_one(
        self, connection: sa.Connection, asked: ReplayWebhook
    ) -> tuple[WebhookResult, int]:
        now = dialect.read_now(connection, self._clock)
        is_it = (
            _DELIVERY.endpoint_id == asked.webhook_id,
            _DELIVERY.message_id == asked.message_id,
        )
        if connection.execute(sa.select(_DELIVERY.state).where(*is_it)).first() is None:
            return WebhookResult.NO_EVENT, 0
        again = sa.update(deliveries).where(*is_it, _DELIVERY.token.is_(None))
        values = {"state": State.WAITING, "due_at": now, "tries": 0, "begun_at": None}
        return WebhookResult.FOUND, connection.execute(again.values(values)).rowcount

    def _send_test(self, connection: sa.Connection, asked: SendTestEvent) -> str | None:
        if find(connection, asked.client, asked.webhook_id) is None:
            return None
        now = dialect.read_now(connection, self._clock)
        identifier = f"msg_{asked.id.replace('-', '').replace('.', '')}"
        data = orjson.dumps({"webhook_id": asked.webhook_id})
        message = {
            "message_id": identifier,
            "type": TEST_TYPE,
            "address": "",
            "at": now,
            "kept_at": now,
            "body": body(TEST_TYPE, moment(now), data),
        }
        delivery = {
            "endpoint_id": asked.webhook_id,
            "message_id": identifier,
            "at": now,
            "state": State.WAITING,
            "due_at": now,
            "tries": 0,
            "number": 0,
            "once": True,
        }
        for table, values in ((messages, message), (deliveries, delivery)):
            insert = dialect.insert(connection, table).values(values)
            connection.execute(insert.on_conflict_do_nothing())
        return identifier


def _replay(connection: sa.Connection, asked: ReplayWebhook, after: Place) -> ReplayedPiece:
    """Park what is to be sent again, beyond a place; the upkeep moves it on as there is room."""
    key = (_DELIVERY.at, _DELIVERY.message_id)
    beyond = sa.tuple_(*key) > sa.tuple_(*map(sa.literal, after))
    look = sa.select(*key).where(*_is_replayed(asked), beyond).order_by(*key).limit(REPLAY_ROWS)
    rows = connection.execute(look).all()
    if not rows:
        return ReplayedPiece(0, None)
    found = _DELIVERY.message_id.in_([row.message_id for row in rows])
    again = sa.update(deliveries).where(*_is_replayed(asked), found)
    parked = {"state": State.PARKED, "due_at": None, "tries": 0, "begun_at": None}
    count = connection.execute(again.values(parked)).rowcount
    backlogged = sa.update(endpoints).where(endpoints.c.id == asked.webhook_id)
    connection.execute(backlogged.values(backlogged=True))
    is_full = len(rows) == REPLAY_ROWS
    return ReplayedPiece(count, (rows[-1].at, rows[-1].message_id) if is_full else None)


def _is_replayed(asked: ReplayWebhook) -> tuple[sa.ColumnElement[bool], ...]:
    states = [State.WAITING, State.HELD, State.FAILED]
    states += [State.DELIVERED] * asked.delivered
    return (
        _DELIVERY.endpoint_id == asked.webhook_id,
        _DELIVERY.state.in_(states),
        _DELIVERY.token.is_(None),
        sa.not_(_DELIVERY.once),
        *((_DELIVERY.at >= milliseconds(asked.since),) if asked.since else ()),
        *((_DELIVERY.at < milliseconds(asked.until),) if asked.until else ()),
    )


def _deliveries(connection: sa.Connection, asked: ListWebhookDeliveries) -> HistoryPage | None:
    endpoint = find(connection, asked.client, asked.webhook_id)
    if endpoint is None:
        return None
    key = (_DELIVERY.at, _DELIVERY.message_id)
    look = (
        sa.select(deliveries, messages.c.type)
        .join_from(deliveries, messages, _DELIVERY.message_id == messages.c.message_id)
        .where(_DELIVERY.endpoint_id == asked.webhook_id)
        .order_by(*(each.desc() for each in key))
        .limit(asked.limit + 1)
    )
    if asked.status is not None:
        look = look.where(_DELIVERY.state.in_(_states(asked.status, endpoint)))
    if asked.after is not None:
        at, _, message_id = asked.after.partition("-")
        look = look.where(sa.tuple_(*key) < sa.tuple_(*map(sa.literal, (int(at), message_id))))
    rows = connection.execute(look).all()
    shown = rows[: asked.limit]
    after = f"{shown[-1].at}-{shown[-1].message_id}" if len(rows) > len(shown) else None
    return HistoryPage([_delivery(row, endpoint) for row in shown], after)


def _delivery(row: sa.Row[Any], endpoint: Webhook) -> WebhookDelivery:
    state = State(row.state)
    return WebhookDelivery(
        message_id=row.message_id,
        type=row.type,
        at=moment(row.at),
        status=_parked(endpoint) if state is State.PARKED else _STATUS[state],
        tries=row.number,
        next_at=_next_at(row),
    )


def _next_at(row: sa.Row[Any]) -> datetime | None:
    is_waiting = row.due_at is not None and row.token is None
    return moment(row.due_at) if is_waiting else None


def _parked(endpoint: Webhook) -> DeliveryStatus:
    return DeliveryStatus.WAITING if endpoint.disabled_at is None else DeliveryStatus.HELD


def _states(status: DeliveryStatus, endpoint: Webhook) -> Sequence[State]:
    return [_STATES[status], *([State.PARKED] * (_parked(endpoint) is status))]


def _tries(connection: sa.Connection, asked: ListWebhookTries) -> HistoryPage | None:
    if find(connection, asked.client, asked.webhook_id) is None:
        return None
    key = (_TRY.at, _TRY.message_id, _TRY.number)
    look = (
        sa.select(tries, messages.c.body)
        .join_from(tries, messages, _TRY.message_id == messages.c.message_id)
        .where(_TRY.endpoint_id == asked.webhook_id)
        .order_by(*(each.desc() for each in key))
        .limit(asked.limit + 1)
    )
    if asked.message_id is not None:
        look = look.where(_TRY.message_id == asked.message_id)
    if asked.after is not None:
        at, message_id, number = (asked.after + "-0").split("-")[:3]
        before = map(sa.literal, (int(at), message_id, int(number)))
        look = look.where(sa.tuple_(*key) < sa.tuple_(*before))
    rows = connection.execute(look).all()
    shown = rows[: asked.limit]
    last = shown[-1] if len(rows) > len(shown) else None
    after = None if last is None else f"{last.at}-{last.message_id}-{last.number}"
    return HistoryPage([*map(_try, shown)], after)


def _try(row: sa.Row[Any]) -> WebhookTry:
    return WebhookTry(
        message_id=row.message_id,
        number=row.number,
        at=moment(row.at),
        url=row.url,
        headers=orjson.loads(row.headers),
        body=row.body.decode(),
        status=row.status,
        answer_headers=orjson.loads(row.answer_headers),
        answer=row.answer.decode(errors="replace").replace("\0", "\ufffd"),
        error=row.error,
        seconds=row.milliseconds / 1000,
    )
