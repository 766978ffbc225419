"""The events for each endpoint: kept, taken to be sent, and finished with the try's result."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import sqlalchemy as sa

from services.webhooks.attempts import RETRY_SPAN, Next, State, is_success
from services.webhooks.messages import ADMINISTRATOR, Audience, Message
from services.webhooks.store.endpoints import MILLISECOND, milliseconds, moment, park
from services.webhooks.store.tables import deliveries, endpoints, messages, tries
from shared.contracts import DisabledFor
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

PARK_FAILURES = 3  # in a row: then one event at a time shows whether the endpoint works again
_TABLE = deliveries.c
_ENDPOINT = endpoints.c
_RETRY_SPAN_MILLISECONDS = RETRY_SPAN // MILLISECOND

_KEEP_MESSAGES = (
    dialect.insert_text(
        messages,
        ("message_id", "type", "address", "body", "at", "trace"),
        {"kept_at": "CAST($1 AS bigint)"},
    )
    + " ON CONFLICT DO NOTHING"
)
_KEEP_DELIVERIES = (
    dialect.insert_text(
        deliveries,
        ("endpoint_id", "message_id", "state", "at", "due_at"),
        {"tries": "0", "number": "0", "once": "FALSE"},
    )
    + " ON CONFLICT DO NOTHING"
)


class Subscriber(NamedTuple):
    """The wishes of an endpoint, and whether its events are parked."""

    id: str
    client: str
    events: Collection[str]
    categories: Collection[str]
    tags: Collection[str]
    is_parked: bool


class Due(NamedTuple):
    """An event that this service has taken, to be sent to one endpoint."""

    endpoint_id: str
    message_id: str
    token: str
    tries: int  # before this one, since it was replayed if it was
    begun_at: datetime | None
    at: datetime  # of the event
    once: bool
    body: bytes
    url: str
    secret: str  # sealed
    old_secret: str | None  # sealed; absent if its time is over
    failures: int  # of the endpoint, since its last success
    trace: str | None = None  # the traceparent of the event


class Try(NamedTuple):
    """A request to an endpoint, as it was sent and answered, and what follows it."""

    due: Due
    following: Next
    at: datetime
    headers: dict[str, str]
    status: int | None = None
    answer_headers: dict[str, str] = {}  # noqa: RUF012 -- of a tuple, never changed
    answer: bytes = b""
    error: str | None = None
    milliseconds: int = 0


class DeliveryStore:
    """The events for each endpoint. Every method raises Retry without the database."""

    def __init__(
        self, database: Database, lease: timedelta, keep_days: int, clock: Clock = dialect.now
    ) -> None:
        self._database = HandlerDatabase(database, "the webhooks")
        self._lease = lease // MILLISECOND
        self._keep = timedelta(days=keep_days) // MILLISECOND
        self._clock = clock
        self._name = uuid4().hex
        self._numbers = count(1)

    async def keep(self, found: Sequence[Message]) -> bool:
        """Keep messages for the endpoints that want them; return whether any does.

        Copies change nothing. A message that is older than all that is kept is left out: it may be
        a copy of one that was purged, as the suppression list is announced again each day.
        """
        chosen = await self._database.read(lambda c: self._chosen(c, found))
        if not chosen:
            return False
        await self._database.write(lambda c: self._insert(c, chosen))
        return True

    async def take(
        self, limit: int, full: Collection[str] = (), *, failing: bool = True
    ) -> Sequence[Due]:
        """Claim up to `limit` due events, those that are due for longest; return them in any order.

        None of the endpoints that are `full`, and without `failing` none of those that failed last.
        """
        token = f"{self._name}-{next(self._numbers)}"
        return await self._database.write(lambda c: self._take(c, token, limit, full, failing))

    async def finish(self, done: Sequence[Try]) -> Sequence[bool]:
        """Write tries, and their results for deliveries and endpoints; return which were written.

        A try whose lease was over, or whose endpoint was deleted meanwhile, changes nothing.
        """
        return await self._database.write(lambda c: self._finish(c, done))

    async def give_back(self, taken: Sequence[Due]) -> None:
        """Free events that were taken and not sent; they are due at once."""
        rows = [(each.endpoint_id, each.message_id, each.token) for each in sorted(taken)]
        await self._database.write(lambda c: dialect.run(c, _GIVE_BACK, rows))

    def _chosen(
        self, connection: sa.Connection, found: Sequence[Message]
    ) -> Sequence[tuple[Message, Sequence[Subscriber]]]:
        oldest = moment(dialect.read_now(connection, self._clock) - self._keep)
        young = [each for each in found if each.at > oldest]
        look = sa.select(*_SUBSCRIBER)
        clients = {each.client for each in young}
        if None not in clients:
            look = look.where(_ENDPOINT.client.in_({ADMINISTRATOR, *clients}))
        audience = Audience(_subscriber(row) for row in connection.execute(look))
        pairs = ((each, audience.of(each)) for each in young)
        return [(each, to) for each, to in pairs if to]

    def _insert(
        self,
        connection: sa.Connection,
        chosen: Sequence[tuple[Message, Sequence[Subscriber]]],
    ) -> None:
        now = dialect.read_now(connection, self._clock)
        kept = [
            (
                *(each.message_id, each.type, each.address, each.body),
                *(milliseconds(each.at), each.trace),
            )
            for each, _ in sorted(chosen, key=lambda pair: pair[0].message_id)
        ]
        dialect.run(connection, _KEEP_MESSAGES, kept, [now])
        rows = sorted(
            (
                *(to.id, each.message_id),
                State.PARKED if to.is_parked else State.WAITING,
                *(milliseconds(each.at), None if to.is_parked else now),
            )
            for each, subscribers in chosen
            for to in subscribers
        )
        dialect.run(connection, _KEEP_DELIVERIES, rows)

    def _take(
        self,
        connection: sa.Connection,
        token: str,
        limit: int,
        full: Collection[str],
        failing: bool,  # noqa: FBT001 -- by its name outside
    ) -> Sequence[Due]:
        now = dialect.read_now(connection, self._clock)
        due = (
            sa.select(_TABLE.endpoint_id, _TABLE.message_id)
            .where(_TABLE.due_at <= now, _TABLE.endpoint_id.not_in([*full]))
            .order_by(_TABLE.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if not failing:
            fails = sa.select(_ENDPOINT.id).where(_ENDPOINT.failures > 0)
            due = due.where(_TABLE.endpoint_id.not_in(fails))
        take = (
            sa.update(deliveries)
            .where(sa.tuple_(_TABLE.endpoint_id, _TABLE.message_id).in_(due))
            .values(due_at=now + self._lease, token=token)
            .returning(*_TAKEN)
        )
        rows = connection.execute(take).all()
        return _joined(connection, rows, now) if rows else ()

    def _finish(self, connection: sa.Connection, done: Sequence[Try]) -> Sequence[bool]:
        now = dialect.read_now(connection, self._clock)
        ordered = sorted(done, key=lambda each: each.due[:2])
        rows = [_finished(each, now) for each in ordered]
        numbers = {
            (row.endpoint_id, row.message_id): row.number
            for row in dialect.run(connection, _FINISH, rows)
        }
        written = [each for each in ordered if each.due[:2] in numbers]
        tried = [_try_row(each, numbers[each.due[:2]]) for each in written]
        dialect.run(connection, _KEEP_TRIES, tried)
        _judge(connection, written, now)
        return [each.due[:2] in numbers for each in done]


def _subscriber(row: sa.Row[Any]) -> Subscriber:
    return Subscriber(
        id=row.id,
        client=row.client,
        events=orjson.loads(row.events),
        categories=orjson.loads(row.categories),
        tags=orjson.loads(row.tags),
        is_parked=row.disabled_at is not None or row.backlogged,
    )


_SUBSCRIBER = (
    *(_ENDPOINT[name] for name in ("id", "client", "events", "categories", "tags")),
    *(_ENDPOINT.disabled_at, _ENDPOINT.backlogged),
)
_TAKEN = tuple(
    _TABLE[name]
    for name in ("endpoint_id", "message_id", "token", "tries", "begun_at", "at", "once")
)
_GIVE_BACK = """
UPDATE deliveries SET token = NULL, due_at = at
FROM $rows(text, text, text)
WHERE endpoint_id = column1 AND message_id = column2 AND token = column3
"""
_FINISH = """
UPDATE deliveries SET token = NULL, state = column4, due_at = column5,
    begun_at = COALESCE(begun_at, column6), tries = tries + 1, number = number + 1
FROM $rows(text, text, text, integer, bigint, bigint)
WHERE endpoint_id = column1 AND message_id = column2 AND token = column3
RETURNING endpoint_id, message_id, number
"""
_KEEP_TRIES = (
    dialect.insert_text(
        tries,
        (
            *("endpoint_id", "message_id", "number", "at", "url", "headers", "status"),
            *("answer_headers", "answer", "error", "milliseconds"),
        ),
    )
    + " ON CONFLICT DO NOTHING"
)


def _joined(connection: sa.Connection, rows: Sequence[sa.Row[Any]], now: int) -> Sequence[Due]:
    """Return what was taken with its content; what has no endpoint any more is deleted."""
    look = sa.select(messages.c.message_id, messages.c.body, messages.c.trace)
    look = look.where(messages.c.message_id.in_({row.message_id for row in rows}))
    contents = {message_id: (body, trace) for message_id, body, trace in connection.execute(look)}
    places = sa.select(endpoints).where(_ENDPOINT.id.in_({row.endpoint_id for row in rows}))
    found = {row.id: row for row in connection.execute(places)}
    due = list[Due]()
    for row in rows:
        to = found.get(row.endpoint_id)
        if to is None or row.message_id not in contents:
            _remove(connection, row)
        elif to.disabled_at is not None and not row.once:
            _park_one(connection, row)
        else:
            due.append(_due(row, to, contents[row.message_id], now))
    return due


def _due(row: sa.Row[Any], to: sa.Row[Any], content: tuple[bytes, str | None], now: int) -> Due:
    body, trace = content
    is_signed_by_old = to.old_until is not None and to.old_until > now
    return Due(
        endpoint_id=row.endpoint_id,
        message_id=row.message_id,
        token=row.token,
        tries=row.tries,
        begun_at=None if row.begun_at is None else moment(row.begun_at),
        at=moment(row.at),
        once=row.once,
        body=body,
        url=to.url,
        secret=to.secret,
        old_secret=to.old_secret if is_signed_by_old else None,
        failures=to.failures,
        trace=trace,
    )


def _one(row: sa.Row[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return _TABLE.endpoint_id == row.endpoint_id, _TABLE.message_id == row.message_id


def _remove(connection: sa.Connection, row: sa.Row[Any]) -> None:
    connection.execute(sa.delete(deliveries).where(*_one(row)))


def _park_one(connection: sa.Connection, row: sa.Row[Any]) -> None:
    parked = {"state": State.PARKED, "due_at": None, "token": None}
    connection.execute(sa.update(deliveries).where(*_one(row)).values(parked))


def _finished(each: Try, now: int) -> tuple[object, ...]:
    wait = each.following.delay_seconds
    due_at = None if wait is None else now + round(wait * 1000)
    return (*each.due[:3], each.following.state.value, due_at, milliseconds(each.at))


def _try_row(each: Try, number: int) -> tuple[object, ...]:
    return (
        *each.due[:2],
        number,
        milliseconds(each.at),
        each.due.url,
        orjson.dumps(each.headers).decode(),
        each.status,
        orjson.dumps(each.answer_headers).decode(),
        each.answer,
        each.error,
        each.milliseconds,
    )


def _judge(connection: sa.Connection, written: Sequence[Try], now: int) -> None:
    """Count failures and successes in a row at each endpoint; a test counts as neither."""
    by_endpoint = dict[str, list[Try]]()
    for each in sorted(written, key=lambda each: each.at):
        if not each.due.once:
            by_endpoint.setdefault(each.due.endpoint_id, []).append(each)
    for endpoint_id, done in sorted(by_endpoint.items()):
        ends = [is_success(each.status) for each in done]
        last = max((place for place, end in enumerate(ends) if end), default=-1)
        failed = done[last + 1 :]
        if last >= 0 and (done[last].due.failures or failed):
            _succeed(connection, endpoint_id)
        if failed:
            _fail(connection, endpoint_id, failed, now)


def _succeed(connection: sa.Connection, endpoint_id: str) -> None:
    change = sa.update(endpoints).where(_ENDPOINT.id == endpoint_id, _ENDPOINT.failures > 0)
    connection.execute(change.values(failures=0, failing_since=None))


def _fail(connection: sa.Connection, endpoint_id: str, failed: Sequence[Try], now: int) -> None:
    since = sa.func.coalesce(_ENDPOINT.failing_since, milliseconds(failed[0].at))
    change = sa.update(endpoints).where(
        _ENDPOINT.id == endpoint_id, _ENDPOINT.disabled_at.is_(None)
    )
    counted = change.values(failures=_ENDPOINT.failures + len(failed), failing_since=since)
    row = connection.execute(counted.returning(_ENDPOINT.failures, _ENDPOINT.failing_since)).first()
    if row is None:
        return
    is_gone = any(each.following.is_gone for each in failed)
    if is_gone or now - row.failing_since >= _RETRY_SPAN_MILLISECONDS:
        reason = DisabledFor.GONE if is_gone else DisabledFor.FAILING
        disabled = {"disabled_at": now, "disabled_for": reason, "announced": False}
        connection.execute(change.values(disabled))
        park(connection, endpoint_id, held=False)
    elif row.failures >= PARK_FAILURES:
        connection.execute(change.values(backlogged=True))
        _park_others(connection, endpoint_id, failed)


def _park_others(connection: sa.Connection, endpoint_id: str, failed: Sequence[Try]) -> None:
    """Park all but the event that is tried next, to see whether the endpoint works again."""
    waiting = [each for each in failed if each.following.state is State.WAITING]
    if not waiting:
        return  # upkeep chooses one
    first = min(waiting, key=lambda each: each.following.delay_seconds or 0)
    others = sa.update(deliveries).where(
        _TABLE.endpoint_id == endpoint_id,
        _TABLE.state == State.WAITING,
        _TABLE.token.is_(None),
        _TABLE.message_id != first.due.message_id,
        sa.not_(_TABLE.once),
    )
    connection.execute(others.values(state=State.PARKED, due_at=None))
