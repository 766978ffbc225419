"""The runs of content types in the database, with the reports on their mails."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.scheduler.store.content_types import Key
from services.scheduler.store.due import DueSubscription, milliseconds, moment, read_subscriptions
from services.scheduler.store.tables import reports, runs, subscriptions
from shared.contracts import ContentRun
from shared.contracts.content import run_id
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

PURGE_ROWS = 1000  # a transaction

UNKNOWN_MAILBOX, COMPLAINT = "unknown_mailbox", "complaint"
_COUNTS = {UNKNOWN_MAILBOX: runs.c.unknown_mailboxes, COMPLAINT: runs.c.complaints}


class RunCounts(NamedTuple):
    """The mails of a run, and the reports on them."""

    published: int
    unknown_mailboxes: int
    complaints: int


class RunStore:
    """The runs. Every method raises Retry without the database."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the runs")
        self._clock = clock

    async def report(
        self, key: Key, period: datetime, email_id: str, kind: str
    ) -> RunCounts | None:
        """Count a report on a mail of a run; return the counts, None for a report seen before."""
        return await self._database.write(
            lambda c: self._report(c, (*key, milliseconds(period)), email_id, kind)
        )

    async def page(self, key: Key, after: datetime | None, limit: int) -> Sequence[ContentRun]:
        """Return the runs before the period `after`, the latest first."""
        look = (
            sa.select(runs)
            .where(runs.c.client == key[0], runs.c.content_type == key[1])
            .order_by(runs.c.period_at.desc())
            .limit(limit)
        )
        if after is not None:
            look = look.where(runs.c.period_at < milliseconds(after))
        rows = await self._database.read(lambda c: c.execute(look).all())
        return [
            ContentRun(
                run_id=run_id(row.content_type, moment(row.period_at)),
                content_type=row.content_type,
                client=row.client or None,
                period_at=moment(row.period_at),
                published=row.published,
                unknown_mailboxes=row.unknown_mailboxes,
                complaints=row.complaints,
            )
            for row in rows
        ]

    async def subscriptions(self, key: Key, ids: Sequence[str]) -> Sequence[DueSubscription]:
        """Return the subscriptions of a content type among some ids."""
        which = sa.and_(
            subscriptions.c.client == key[0],
            subscriptions.c.content_type == key[1],
            subscriptions.c.id.in_(ids),
            sa.not_(subscriptions.c.pending),
        )
        return await self._database.read(lambda c: read_subscriptions(c, which))

    async def content_type_of(self, subscription: str) -> Key | None:
        """Return the content type of a subscription, None if it has ended."""
        look = sa.select(subscriptions.c.client, subscriptions.c.content_type).where(
            subscriptions.c.id == subscription
        )
        row = await self._database.read(lambda c: c.execute(look).first())
        return None if row is None else (row.client, row.content_type)

    async def purge(self, days: int) -> None:
        """Delete the runs and reports that are older than some days."""
        for column in (runs.c.period_at, reports.c.at):
            while await self._database.write(partial(self._purge, column=column, days=days)):
                pass  # ends when nothing is left that old

    def _report(
        self, connection: sa.Connection, run: tuple[str, str, int], email_id: str, kind: str
    ) -> RunCounts | None:
        now = dialect.read_now(connection, self._clock)
        values = {"email_id": email_id, "kind": kind, "at": now}
        insert = dialect.insert(connection, reports).values(values).on_conflict_do_nothing()
        if not connection.execute(insert).rowcount:
            return None
        client, content_type, period_at = run
        column = _COUNTS[kind]
        change = (
            sa.update(runs)
            .where(
                runs.c.client == client,
                runs.c.content_type == content_type,
                runs.c.period_at == period_at,
            )
            .values({column: column + 1})
            .returning(runs.c.published, runs.c.unknown_mailboxes, runs.c.complaints)
        )
        row = connection.execute(change).first()
        return None if row is None else RunCounts(*row)

    def _purge(self, connection: sa.Connection, column: sa.Column[int], days: int) -> int:
        table = column.table
        now = dialect.read_now(connection, self._clock)
        limit = now - timedelta(days=days) // timedelta(milliseconds=1)
        key = [*table.primary_key]
        old = sa.select(*key).where(column < limit).limit(PURGE_ROWS)
        return connection.execute(sa.delete(table).where(sa.tuple_(*key).in_(old))).rowcount
