"""The runs of content types in the database, with the reports on their mails."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.scheduler.plan import Key
from services.scheduler.store.due import DueSubscription, milliseconds, moment, read_subscriptions
from services.scheduler.store.tables import content_types, reports, runs, subscriptions
from shared.contracts import ContentRun
from shared.contracts.content import NewsletterId, run_id
from shared.contracts.schedule import subscription_id
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

DAY_MS = 86_400_000
PURGE_ROWS = 1000  # a transaction

UNKNOWN_MAILBOX, COMPLAINT = "unknown_mailbox", "complaint"
_COUNTS = {UNKNOWN_MAILBOX: runs.c.unknown_mailboxes, COMPLAINT: runs.c.complaints}
_SINCE_RESUMED = tuple(
    runs.c[name] - runs.c[f"excused_{name}"]
    for name in ("published", "unknown_mailboxes", "complaints")
)


class RunCounts(NamedTuple):
    """The mails of a run, and the reports on them, since its content type was last resumed."""

    published: int
    unknown_mailboxes: int
    complaints: int


class ReportCounts(NamedTuple):
    """The counts of a run, and of all runs of its content type in the day that it ends."""

    run: RunCounts
    day: RunCounts


class RunStore:
    """The runs. Every method raises Retry without the database."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the runs")
        self._clock = clock

    async def report(self, key: Key, newsletter: NewsletterId, kind: str) -> ReportCounts | None:
        """Count a report on a mail of a run, once for the mail and its repetitions.

        Return the counts after it, None if there is no such content type.
        """
        return await self._database.write(lambda c: self._report(c, key, newsletter, kind))

    async def page(
        self, key: Key, after: datetime | None, limit: int
    ) -> tuple[Sequence[ContentRun], datetime | None]:
        """Return the runs before the period `after`, the latest first, and the next `after`."""
        look = (
            sa.select(runs)
            .where(runs.c.client == key[0], runs.c.content_type == key[1])
            .order_by(runs.c.period_at.desc())
            .limit(limit + 1)
        )
        if after is not None:
            look = look.where(runs.c.period_at < milliseconds(after))
        rows = await self._database.read(lambda c: c.execute(look).all())
        found = [
            ContentRun(
                run_id=run_id(row.content_type, moment(row.period_at)),
                content_type=row.content_type,
                client=row.client or None,
                period_at=moment(row.period_at),
                published=row.published,
                unknown_mailboxes=row.unknown_mailboxes,
                complaints=row.complaints,
                unfit=row.unfit,
            )
            for row in rows[:limit]
        ]
        return found, found[-1].period_at if len(rows) > limit else None

    async def subscriptions(self, key: Key, ids: Sequence[str]) -> Sequence[DueSubscription]:
        """Return the subscriptions of a content type among some ids."""
        which = sa.and_(
            subscriptions.c.client == key[0],
            subscriptions.c.content_type == key[1],
            subscriptions.c.id.in_(ids),
            sa.not_(subscriptions.c.pending),
        )
        return await self._database.read(lambda c: read_subscriptions(c, which))

    async def content_type_of(
        self, newsletter: NewsletterId, email: str, client: str | None
    ) -> Key | None:
        """Return the content type of a mail to an address, None if it is not there any more.

        The subscription may have ended, so its id is looked for among those that the address can
        have.
        """
        look = sa.select(content_types.c.client, content_types.c.name)
        if client is not None:
            look = look.where(content_types.c.client == client)
        rows = await self._database.read(lambda c: c.execute(look).all())
        return next(
            (
                (row.client, row.name)
                for row in rows
                if subscription_id(row.client, row.name, email) == newsletter.subscription
            ),
            None,
        )

    async def purge(self, days: int) -> None:
        """Delete the runs and reports that are older than some days."""
        for column in (runs.c.period_at, reports.c.at):
            while await self._database.write(partial(self._purge, column=column, days=days)):
                pass  # ends when nothing is left that old

    def _report(
        self, connection: sa.Connection, key: Key, newsletter: NewsletterId, kind: str
    ) -> ReportCounts | None:
        kept = sa.select(content_types.c.name).where(
            content_types.c.client == key[0], content_types.c.name == key[1]
        )
        if connection.execute(kept).first() is None:
            return None
        now = dialect.read_now(connection, self._clock)
        first = str(newsletter._replace(repetition=0))
        values = {"email_id": first, "kind": kind, "at": now}
        insert = dialect.insert(connection, reports).values(values).on_conflict_do_nothing()
        is_new = connection.execute(insert).rowcount
        run = {
            "client": key[0],
            "content_type": key[1],
            "period_at": milliseconds(newsletter.period),
        }
        # A mail may be refused before the scheduler has counted it.
        nothing = {"published": 0, "unknown_mailboxes": 0, "complaints": 0}
        make = dialect.insert(connection, runs).values(run | nothing).on_conflict_do_nothing()
        connection.execute(make)
        which = [runs.c[name] == value for name, value in run.items()]
        if is_new:
            column = _COUNTS[kind]
            connection.execute(sa.update(runs).where(*which).values({column: column + 1}))
        one = connection.execute(sa.select(*_SINCE_RESUMED).where(*which)).one()
        end = milliseconds(newsletter.period)
        day = sa.select(*map(sa.func.sum, _SINCE_RESUMED)).where(
            runs.c.client == key[0],
            runs.c.content_type == key[1],
            runs.c.period_at.between(end - DAY_MS + 1, end),
        )
        # PostgreSQL's sums of integers are decimals.
        return ReportCounts(RunCounts(*one), RunCounts(*map(int, connection.execute(day).one())))

    def _purge(self, connection: sa.Connection, column: sa.Column[int], days: int) -> int:
        table = column.table
        now = dialect.read_now(connection, self._clock)
        limit = now - timedelta(days=days) // timedelta(milliseconds=1)
        key = [*table.primary_key]
        old = sa.select(*key).where(column < limit).limit(PURGE_ROWS)
        return connection.execute(sa.delete(table).where(sa.tuple_(*key).in_(old))).rowcount
