"""Subscriptions whose mail is due: taken by one scheduler, then moved on to their next period."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from services.scheduler.plan import Key
from services.scheduler.recurrence import Recurrence
from services.scheduler.store.tables import content_types, runs, subscriptions
from shared.contracts import Missed
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock, Prepared

_SUBSCRIPTION = tuple(
    subscriptions.c[name]
    for name in (
        *("id", "client", "content_type", "email", "frequency", "timezone", "at"),
        *("variables", "missed", "retries", "locale", "period_at"),
    )
)
_CONTENT_KEY = (content_types.c.client, content_types.c.name)
_NUMBERS = ("published", "unfit")
_RUN = ("client", "content_type", "period_at", *_NUMBERS)
_COUNT = dialect.insert_text(
    runs, _RUN, {"unknown_mailboxes": "0", "complaints": "0"}, add=_NUMBERS
)
_TIMES = (subscriptions.c.frequency, subscriptions.c.timezone, subscriptions.c.at)
FAR = timedelta(days=1)
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

    @property
    def key(self) -> Key:
        """Its content type."""
        return self.client, self.content_type


class Step(NamedTuple):
    """The period that a subscription was mailed, if any, and the next one with its time.

    `unfit` is a period whose mail could not be made of the variables.
    """

    subscription: DueSubscription
    mailed: datetime | None
    following: datetime
    due_at: datetime
    unfit: datetime | None = None


class Taken(NamedTuple):
    """The subscriptions that were taken, at a time of the database."""

    token: str
    at: datetime
    subscriptions: Sequence[DueSubscription]


class FarAhead(NamedTuple):
    """Recurrences, each with its last period, at a time of the database."""

    at: datetime
    recurrences: Sequence[tuple[Recurrence, datetime]]


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

    async def find_due(self) -> Sequence[Key]:
        """Return the content types with due subscriptions, without those that are paused.

        It takes a look at each content type, however many subscriptions there are.
        """
        return await self._database.read(lambda c: self._in(c).find_due(c))

    async def take(self, shares: Mapping[Key, int]) -> Taken:
        """Claim up to so many due subscriptions of content types, those due for longest first."""
        token = self._leases.new_token()
        return await self._database.write(lambda c: self._in(c).take(c, token, shares))

    async def move(self, token: str, steps: Sequence[Step]) -> int:
        """Move subscriptions on, and count the mails of their runs; return how many were moved.

        One that another scheduler has taken since stays as it is, and is counted there.
        """
        if not steps:
            return 0
        return await self._database.write(lambda c: self._in(c).move(c, token, steps))

    async def far_ahead(self) -> FarAhead:
        """Return the recurrences with a period that is far ahead of the database's time."""
        return await self._database.read(lambda c: self._in(c).far_ahead(c))

    async def set_back(
        self, recurrence: Recurrence, following: datetime, due_at: Callable[[str], datetime]
    ) -> int:
        """Write a period to those of a recurrence that are far ahead of it; return how many.

        Call `due_at` with the id of each, for the time at which it is mailed.
        """
        return await self._database.write_all(
            lambda c: self._in(c).set_back(c, recurrence, following, due_at)
        )

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

    def find_due(self, connection: sa.Connection) -> Sequence[Key]:
        """Look for the first due row of each content type that is not paused."""
        now: int = connection.execute(sa.select(self._now)).scalar_one()
        found = self._find_due.run(connection, now=now)
        return [(row.client, row.name) for row in found]

    def take(self, connection: sa.Connection, token: str, shares: Mapping[Key, int]) -> Taken:
        """Write the token and the end of the lease to due rows, and return them."""
        now: int = connection.execute(sa.select(self._now)).scalar_one()
        lease: Mapping[str, Any] = {"now": now, "until": now + self._lease, "holder": token}
        found = [
            row
            for (client, name), share in shares.items()
            for row in self._take.run(connection, of=client, named=name, max_rows=share, **lease)
        ]
        return Taken(token, moment(now), [*map(_subscription, found)])

    def move(self, connection: sa.Connection, token: str, steps: Sequence[Step]) -> int:
        """Write the next periods of rows that still have the token, and add to the runs."""
        rows = [
            (each.subscription.id, milliseconds(each.following), milliseconds(each.due_at))
            for each in sorted(steps, key=lambda each: each.subscription.id)
        ]
        moved = {row[0] for row in self._move.run(connection, rows, holder=token)}
        done = [each for each in steps if each.subscription.id in moved]
        mailed = Counter(_run(each, each.mailed) for each in done if each.mailed)
        unfit = Counter(_run(each, each.unfit) for each in done if each.unfit)
        if either := mailed.keys() | unfit.keys():
            # In one order at all schedulers: two that change the same could wait for each other.
            counts = [(*run, mailed[run], unfit[run]) for run in sorted(either)]
            dialect.run(connection, _COUNT, counts)
        return len(moved)

    def far_ahead(self, connection: sa.Connection) -> FarAhead:
        """Group the periods that are more than FAR ahead by their recurrence."""
        now: int = connection.execute(sa.select(self._now)).scalar_one()
        last = sa.func.max(subscriptions.c.period_at)
        look = (
            sa.select(*_TIMES, last)
            .where(subscriptions.c.period_at > now + FAR // _MILLISECOND)
            .group_by(*_TIMES)
        )
        return FarAhead(
            moment(now),
            [(Recurrence(*times), moment(at)) for *times, at in connection.execute(look)],
        )

    def set_back(
        self,
        connection: sa.Connection,
        recurrence: Recurrence,
        following: datetime,
        due_at: Callable[[str], datetime],
    ) -> int:
        """Write a period to MAX_ROWS rows of a recurrence that are more than FAR ahead of it."""
        table = subscriptions.c
        given = (recurrence.frequency, recurrence.timezone, recurrence.at)
        same = [
            column.is_not_distinct_from(value) for column, value in zip(_TIMES, given, strict=True)
        ]
        is_ahead = table.period_at > milliseconds(following + FAR)
        look = sa.select(table.id).where(*same, is_ahead, table.due_at.is_not(None))
        found = connection.execute(look.limit(dialect.MAX_ROWS)).scalars()
        rows = [(each, milliseconds(following), milliseconds(due_at(each))) for each in found]
        if rows:
            self._set_back.run(connection, rows)
        return len(rows)

    @cached_property
    def _find_due(self) -> Prepared:
        table = content_types.c
        # Not EXISTS, of which PostgreSQL makes a join with all due rows.
        first = _first_due(table.client, table.name).limit(1).scalar_subquery()
        look = sa.select(*_CONTENT_KEY).where(table.paused_at.is_(None), first.is_not(None))
        return Prepared(self._connection, look)

    @cached_property
    def _take(self) -> Prepared:
        table = subscriptions.c
        due = (
            _first_due(sa.bindparam("of", type_=sa.Text), sa.bindparam("named", type_=sa.Text))
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
        is_own = subscriptions.c.token == sa.bindparam("holder", type_=sa.Text)
        return Prepared(self._connection, _moves(is_own).returning(subscriptions.c.id))

    @cached_property
    def _set_back(self) -> Prepared:
        return Prepared(self._connection, _moves(sa.true()))


def _run(step: Step, period: datetime) -> tuple[str, str, int]:
    """Return the key of the run of a step."""
    return (*step.subscription.key, milliseconds(period))


def _first_due(
    client: sa.ColumnElement[str], content_type: sa.ColumnElement[str]
) -> sa.Select[tuple[str]]:
    table = subscriptions.c
    return (
        sa.select(table.id)
        .where(
            table.client == client,
            table.content_type == content_type,
            table.due_at <= sa.bindparam("now", type_=sa.BigInteger),
        )
        .order_by(table.due_at)
    )


def _moves(which: sa.ColumnElement[bool]) -> sa.Update:
    table = subscriptions.c
    given = dialect.rows(table.id, table.period_at, table.due_at)
    return (
        sa.update(subscriptions)
        .where(table.id == given.c.id, which)
        .values(period_at=given.c.period_at, due_at=given.c.due_at, token=None)
    )


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
