"""Subscriptions whose mail is due: taken by one scheduler, then moved on to their next period."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from services.scheduler.recurrence import Recurrence
from services.scheduler.store.tables import runs, subscriptions
from shared.contracts import Missed
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock, Prepared

_SUBSCRIPTION = tuple(
    subscriptions.c[name]
    for name in (
        *("id", "client", "content_type", "email", "frequency", "timezone", "at"),
        *("variables", "missed", "retries", "locale", "period_at"),
    )
)
_RUN = ("client", "content_type", "period_at", "published")
_COUNT = dialect.insert_text(
    runs, _RUN, {"unknown_mailboxes": "0", "complaints": "0"}, add=["published"]
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class DueSubscription(NamedTuple):
    """A subscription that this scheduler has taken, with the period that it is to be mailed."""

    id: str
    client: str  # empty for none
    content_type: str
    email: str
    recurrence: Recurrence
    variables: str  # JSON
    missed: Missed
    retries: int | None
    locale: str | None
    period: datetime


class Step(NamedTuple):
    """The period that a subscription was mailed, if any, and the next one with its time."""

    subscription: DueSubscription
    mailed: datetime | None
    following: datetime
    due_at: datetime


class Taken(NamedTuple):
    """The subscriptions that were taken, at a time of the database."""

    token: str
    at: datetime
    subscriptions: Sequence[DueSubscription]


class Leases:
    """The leases of this scheduler, each with a token that no other scheduler has.

    What is taken is due again after the lease, in case that the scheduler has died.
    """

    def __init__(self, lease: timedelta) -> None:
        self.milliseconds = lease // _MILLISECOND
        self._name = uuid4().hex
        self._numbers = count(1)

    def new_token(self) -> str:
        """Return a token for one lease."""
        return f"{self._name}-{next(self._numbers)}"


class DueStore:
    """The due subscriptions of all schedulers. Every method raises Retry without the database."""

    def __init__(self, database: Database, leases: Leases, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the subscriptions")
        self._leases = leases
        self._clock = clock
        self._table: _DueTable | None = None

    async def take(self, limit: int) -> Taken:
        """Claim up to `limit` due subscriptions, the one that is due for longest first."""
        token = self._leases.new_token()
        return await self._database.write(lambda c: self._in(c).take(c, token, limit))

    async def move(self, token: str, steps: Sequence[Step]) -> int:
        """Move subscriptions on, and count the mails of their runs; return how many were moved.

        One that another scheduler has taken since stays as it is, and is counted there.
        """
        return await self._database.write(lambda c: self._in(c).move(c, token, steps))

    async def halt(self, token: str, ids: Sequence[str]) -> None:
        """Keep subscriptions of a paused content type until it is resumed."""
        await self._database.write(lambda c: self._in(c).halt(c, token, ids))

    async def seconds_to_next(self) -> float | None:
        """Return the seconds until the next subscription is due, None if there is none."""
        return await self._database.read(lambda c: self._in(c).seconds_to_next(c))

    def _in(self, connection: sa.Connection) -> "_DueTable":
        if self._table is None:
            self._table = _DueTable(connection, self._clock(connection), self._leases.milliseconds)
        return self._table


class _DueTable:
    """The statements in the dialect of one database, built once."""

    def __init__(self, connection: sa.Connection, now: sa.ColumnElement[int], lease: int) -> None:
        self._connection = connection
        self._now = now
        self._lease = lease

    def take(self, connection: sa.Connection, token: str, limit: int) -> Taken:
        """Write the token and the end of the lease to due rows, and return them."""
        now: int = connection.execute(sa.select(self._now)).scalar_one()
        found = self._take.run(
            connection, now=now, until=now + self._lease, holder=token, max_rows=limit
        )
        return Taken(token, moment(now), [*map(_subscription, found)])

    def move(self, connection: sa.Connection, token: str, steps: Sequence[Step]) -> int:
        """Write the next periods of rows that still have the token, and add to the runs."""
        rows = [
            (each.subscription.id, milliseconds(each.following), milliseconds(each.due_at))
            for each in sorted(steps, key=lambda each: each.subscription.id)
        ]
        moved = {row[0] for row in self._move.run(connection, rows, holder=token)}
        mailed = Counter(
            (each.subscription.client, each.subscription.content_type, milliseconds(each.mailed))
            for each in steps
            if each.mailed is not None and each.subscription.id in moved
        )
        if mailed:
            # In one order at all schedulers: two that change the same could wait for each other.
            counts = sorted((*run, number) for run, number in mailed.items())
            dialect.run(connection, _COUNT, counts)
        return len(moved)

    def halt(self, connection: sa.Connection, token: str, ids: Sequence[str]) -> None:
        """Remove the due time of rows that still have the token."""
        self._halt.run(connection, [(each,) for each in ids], holder=token)

    def seconds_to_next(self, connection: sa.Connection) -> float | None:
        """Return the distance of the first row in the index."""
        first = sa.select(sa.func.min(subscriptions.c.due_at) - self._now)
        left: int | None = connection.execute(first).scalar_one()
        return None if left is None else max(0.0, left / MILLISECONDS_PER_SECOND)

    @cached_property
    def _take(self) -> Prepared:
        table = subscriptions.c
        due = (
            sa.select(table.id)
            .where(table.due_at <= sa.bindparam("now", type_=sa.BigInteger))
            .order_by(table.due_at)
            .limit(sa.bindparam("max_rows", type_=sa.Integer))
            .with_for_update(skip_locked=True)
        )
        take = (
            sa.update(subscriptions)
            .where(table.id.in_(due))
            .values(
                due_at=sa.bindparam("until", type_=sa.BigInteger),
                token=sa.bindparam("holder", type_=sa.Text),
            )
            .returning(*_SUBSCRIPTION)
        )
        return Prepared(self._connection, take)

    @cached_property
    def _move(self) -> Prepared:
        table = subscriptions.c
        given = dialect.rows(table.id, table.period_at, table.due_at)
        move = (
            sa.update(subscriptions)
            .where(table.id == given.c.id, table.token == sa.bindparam("holder", type_=sa.Text))
            .values(period_at=given.c.period_at, due_at=given.c.due_at, token=None)
            .returning(table.id)
        )
        return Prepared(self._connection, move)

    @cached_property
    def _halt(self) -> Prepared:
        table = subscriptions.c
        given = dialect.rows(table.id)
        halt = (
            sa.update(subscriptions)
            .where(table.id == given.c.id, table.token == sa.bindparam("holder", type_=sa.Text))
            .values(due_at=None, token=None)
        )
        return Prepared(self._connection, halt)


def _subscription(row: Sequence[Any]) -> DueSubscription:
    identifier, client, content_type, email, frequency, timezone, at, *more, period_at = row
    variables, missed, retries, locale = more
    return DueSubscription(
        id=identifier,
        client=client,
        content_type=content_type,
        email=email,
        recurrence=Recurrence(frequency, timezone, at),
        variables=variables,
        missed=Missed(missed),
        retries=retries,
        locale=locale,
        period=moment(period_at),
    )


def read_subscriptions(
    connection: sa.Connection, which: sa.ColumnElement[bool]
) -> Sequence[DueSubscription]:
    """Return subscriptions as they are when they are due."""
    return [*map(_subscription, connection.execute(sa.select(*_SUBSCRIPTION).where(which)))]


def moment(value: int) -> datetime:
    """Return a time of the tables, in UTC."""
    return _EPOCH + value * _MILLISECOND


def milliseconds(value: datetime) -> int:
    """Return a time as the tables have it."""
    return (value - _EPOCH) // _MILLISECOND
