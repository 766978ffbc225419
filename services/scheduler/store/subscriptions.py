"""The subscriptions in the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from services.scheduler.plan import due_at
from services.scheduler.recurrence import Recurrence
from services.scheduler.store.due import milliseconds, moment
from services.scheduler.store.tables import content_types, reports, subscriptions
from shared.contracts import (
    ListSubscriptions,
    Missed,
    NewsletterSubscription,
    Subscribe,
    SubscriptionResult,
    SubscriptionStatus,
)
from shared.contracts.schedule import SUBSCRIPTION_ID_CHARS, subscription_id
from shared.runtime.sealing import fold
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

_TABLE = subscriptions.c
_FIELDS = ("frequency", "timezone", "at", "variables", "missed", "retries", "locale")
_TIMES = ("frequency", "timezone", "at")
# A form on a web site could else be used to flood a stranger with mails.
CONFIRMATION_INTERVAL_MS = 3_600_000
DAY_MILLISECONDS = 86_400_000
PURGE_ROWS = 1000  # a transaction


class Answered(NamedTuple):
    """The result of a question, and the subscription if there is one.

    `asks` says that its subscriber is to be asked by mail whether to confirm it.
    """

    result: SubscriptionResult
    subscription: NewsletterSubscription | None
    asks: bool = False


class SubscriptionStore:
    """The subscriptions. Every method raises Retry without the database.

    Runs that are due at one moment are spread over `spread`.
    """

    def __init__(self, database: Database, spread: timedelta, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the subscriptions")
        self._spread = spread
        self._clock = clock

    async def subscribe(self, asked: Subscribe) -> Answered:
        """Add a subscription, or replace the fields of the one that there is.

        One that is pending stays so while it is asked for with `confirm`. Its subscriber is asked
        once an hour at most; a question that comes again asks again.
        """
        return await self._database.write(lambda c: self._subscribe(c, asked))

    async def confirm(self, identifier: str) -> Answered:
        """Mail a subscription from now on that was pending."""
        return await self._database.write(lambda c: self._confirm(c, identifier))

    async def describe(self, identifier: str, client: str | None) -> NewsletterSubscription | None:
        """Return a subscription of a client, of any if None."""
        which = _of(client, _TABLE.id == identifier)
        return await self._database.read(lambda c: _find(c, which))

    async def end(self, identifier: str, client: str | None) -> SubscriptionResult:
        """Delete a subscription of a client, of any if None."""
        delete = sa.delete(subscriptions).where(_of(client, _TABLE.id == identifier))
        ended = await self._database.write(lambda c: c.execute(delete).rowcount)
        return SubscriptionResult.ENDED if ended else SubscriptionResult.UNKNOWN

    async def opt_out(
        self, email: str, client: str | None, content_type: str | None, at: datetime
    ) -> int:
        """Delete the subscriptions of an address from before `at`; return how many.

        Those of one client if it is named, and of one content type. A later one was made by the
        subscriber, who has changed his mind.
        """
        which = [_TABLE.folded == fold(email), _TABLE.created_at <= milliseconds(at)]
        if client is not None:
            which.append(_TABLE.client == client)
        if content_type is not None:
            which.append(_TABLE.content_type == content_type)
        delete = sa.delete(subscriptions).where(*which)
        return await self._database.write(lambda c: c.execute(delete).rowcount)

    async def forget(self, email: str) -> int:
        """Delete all subscriptions of an address, and the reports on its mails; return how many.

        A report that comes again after that counts again.
        """
        ended = await self._database.write(lambda c: _forget(c, email))
        await self._database.empty_log()
        return ended

    async def purge(self, days: int) -> int:
        """Delete subscriptions whose subscriber was asked so many days ago, and has not confirmed.

        Return how many.
        """
        return await self._database.write_all(lambda c: self._purge(c, days))

    async def page(
        self, asked: ListSubscriptions
    ) -> tuple[Sequence[NewsletterSubscription], str | None]:
        """Return a page of subscriptions by id, and the cursor of the next one."""
        which = [_of(asked.client)]
        if asked.email is not None:
            which.append(_TABLE.folded == fold(asked.email))
        if asked.content_type is not None:
            which.append(_TABLE.content_type == asked.content_type)
        if asked.after is not None:
            which.append(_TABLE.id > asked.after)
        look = sa.select(subscriptions).where(*which).order_by(_TABLE.id).limit(asked.limit + 1)
        rows = await self._database.read(lambda c: c.execute(look).mappings().all())
        found = [_subscription(row) for row in rows[: asked.limit]]
        return found, found[-1].subscription_id if len(rows) > len(found) else None

    def _subscribe(self, connection: sa.Connection, asked: Subscribe) -> Answered:
        client = asked.client or ""
        # Shared, so that the content type cannot be deleted before the commit.
        uses = sa.select(content_types.c.name).where(
            content_types.c.client == client, content_types.c.name == asked.content_type
        )
        if connection.execute(uses.with_for_update(read=True)).first() is None:
            return Answered(SubscriptionResult.NO_CONTENT_TYPE, None)
        identifier = subscription_id(asked.client, asked.content_type, asked.email)
        fields, now = _fields(asked), dialect.read_now(connection, self._clock)
        result = SubscriptionResult.CREATED
        # Another scheduler may be adding it.
        if not self._insert(connection, identifier, asked, fields, now):
            result = self._change(connection, identifier, asked, fields, now)
        found = _find(connection, _TABLE.id == identifier)
        is_pending = found is not None and found.status is SubscriptionStatus.PENDING
        asks = is_pending and _may_ask(connection, identifier, asked.id, now)
        return Answered(result, found, asks)

    def _insert(
        self,
        connection: sa.Connection,
        identifier: str,
        asked: Subscribe,
        fields: Mapping[str, Any],
        now: int,
    ) -> bool:
        recurrence = Recurrence(asked.frequency, asked.timezone, asked.at)
        times = {} if asked.confirm else self._times(identifier, recurrence, now)
        values = {
            "id": identifier,
            "client": asked.client or "",
            "content_type": asked.content_type,
            "email": asked.email,
            "folded": fold(asked.email),
            "pending": asked.confirm,
            "created_at": now,
        }
        insert = dialect.insert(connection, subscriptions).values({**values, **fields, **times})
        return connection.execute(insert.on_conflict_do_nothing()).rowcount > 0

    def _change(
        self,
        connection: sa.Connection,
        identifier: str,
        asked: Subscribe,
        fields: Mapping[str, Any],
        now: int,
    ) -> SubscriptionResult:
        look = sa.select(subscriptions).where(_TABLE.id == identifier).with_for_update()
        row = connection.execute(look).mappings().first()
        if row is None:  # it has ended just now
            self._insert(connection, identifier, asked, fields, now)
            return SubscriptionResult.CREATED
        is_pending = row["pending"] and asked.confirm
        begins = row["pending"] and not asked.confirm
        if not begins and all(row[name] == value for name, value in fields.items()):
            return SubscriptionResult.UNCHANGED
        times: Mapping[str, int | None] = {}
        if begins or (not is_pending and any(row[name] != fields[name] for name in _TIMES)):
            recurrence = Recurrence(*(fields[name] for name in _TIMES))
            times = self._times(identifier, recurrence, now)
        # A scheduler that has taken it does not move it on any more.
        change = sa.update(subscriptions).where(_TABLE.id == identifier)
        changes = {**fields, **times, "pending": is_pending, "token": None}
        connection.execute(change.values(changes))
        return SubscriptionResult.CHANGED

    def _confirm(self, connection: sa.Connection, identifier: str) -> Answered:
        look = sa.select(subscriptions).where(_TABLE.id == identifier).with_for_update()
        row = connection.execute(look).mappings().first()
        if row is None:
            return Answered(SubscriptionResult.UNKNOWN, None)
        if row["pending"]:
            now = dialect.read_now(connection, self._clock)
            recurrence = Recurrence(*(row[name] for name in _TIMES))
            times = self._times(identifier, recurrence, now)
            change = sa.update(subscriptions).where(_TABLE.id == identifier)
            connection.execute(change.values({**times, "pending": False}))
        found = _find(connection, _TABLE.id == identifier)
        return Answered(SubscriptionResult.CONFIRMED, found)

    def _purge(self, connection: sa.Connection, days: int) -> int:
        until = dialect.read_now(connection, self._clock) - days * DAY_MILLISECONDS
        asked_at = sa.func.coalesce(_TABLE.asked_at, _TABLE.created_at)
        # A pending one is never due, which the index finds.
        old = sa.select(_TABLE.id).where(_TABLE.due_at.is_(None), _TABLE.pending, asked_at < until)
        delete = sa.delete(subscriptions).where(_TABLE.id.in_(old.limit(PURGE_ROWS)))
        return connection.execute(delete).rowcount

    def _times(self, identifier: str, recurrence: Recurrence, now: int) -> dict[str, int]:
        period = recurrence.after(moment(now))
        due = due_at(identifier, period, self._spread)
        return {"period_at": milliseconds(period), "due_at": milliseconds(due)}


def _forget(connection: sa.Connection, email: str) -> int:
    """Delete the rows of an address; those of mails are found by the ids of its subscriptions."""
    names = connection.execute(sa.select(content_types.c.client, content_types.c.name)).all()
    ids = {subscription_id(client, name, email) for client, name in names}
    delete = sa.delete(subscriptions).where(_TABLE.folded == fold(email)).returning(_TABLE.id)
    ended = connection.execute(delete).scalars().all()
    ids.update(ended)
    for column, change in (
        (reports.c.email_id, sa.delete(reports)),
        (content_types.c.paused_by, sa.update(content_types).values(paused_by=None)),
    ):
        of_mail = sa.func.substr(column, 1, SUBSCRIPTION_ID_CHARS)
        connection.execute(change.where(of_mail.in_(sorted(ids))))
    return len(ended)


def _may_ask(connection: sa.Connection, identifier: str, question: str, now: int) -> bool:
    """Note that a subscriber is asked; return False if another question did so within an hour."""
    since = now - CONFIRMATION_INTERVAL_MS
    change = sa.update(subscriptions).where(
        _TABLE.id == identifier,
        sa.or_(_TABLE.asked_at.is_(None), _TABLE.asked_at <= since, _TABLE.asked_by == question),
    )
    return connection.execute(change.values(asked_at=now, asked_by=question)).rowcount > 0


def _fields(asked: Subscribe) -> dict[str, Any]:
    fields = {name: getattr(asked, name) for name in _FIELDS}
    variables = orjson.dumps(asked.variables, option=orjson.OPT_SORT_KEYS).decode()
    return fields | {"variables": variables, "missed": asked.missed.value}


def _of(client: str | None, *more: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    whose = sa.true() if client is None else _TABLE.client == client
    return sa.and_(whose, *more)


def _find(
    connection: sa.Connection, which: sa.ColumnElement[bool]
) -> NewsletterSubscription | None:
    row = connection.execute(sa.select(subscriptions).where(which)).mappings().first()
    return None if row is None else _subscription(row)


def _subscription(row: sa.RowMapping) -> NewsletterSubscription:
    return NewsletterSubscription.model_construct(
        subscription_id=row["id"],
        client=row["client"] or None,
        email=row["email"],
        content_type=row["content_type"],
        frequency=row["frequency"],
        timezone=row["timezone"],
        at=row["at"],
        variables=orjson.loads(row["variables"]),
        missed=Missed(row["missed"]),
        retries=row["retries"],
        locale=row["locale"],
        status=SubscriptionStatus.PENDING if row["pending"] else SubscriptionStatus.ACTIVE,
        created_at=moment(row["created_at"]),
        next_at=None if row["pending"] else moment(row["period_at"]),
    )
