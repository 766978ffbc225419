"""Forgetting what is older than the settings say, in pieces that no record waits long for.

The history has daily parts on PostgreSQL: made ahead, and forgotten by dropping a table. SQLite has
no such parts. There the history is ordered by the time of acceptance, so that its oldest rows are
neighbours, and pages without rows are used again.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.ledger.mails import DAY_MILLISECONDS, HOUR_MILLISECONDS, Retention, first_number
from services.ledger.store.sql import (
    early_outcomes,
    forget_tags,
    forgotten_keys,
    history,
    lock_keys,
    mail_keys,
    message_ids,
    messages,
    recipients,
    totals,
)
from shared.return_path import mail_key
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import Clock

PURGE_MAILS = 200  # a transaction; each has up to 100 recipients
PURGE_ROWS = 2000  # a transaction, of other tables

_OLDEST = (
    sa.select(messages.c.number, messages.c.email_id, messages.c.client, messages.c.tags)
    .where(messages.c.number < sa.bindparam("limit", type_=sa.BigInteger))
    .order_by(messages.c.number)
    .limit(PURGE_MAILS)
)
DAYS_AHEAD = 7  # a ledger that was away for so long still has a part for today

_LOCK = 0x6C6564676572  # of this work alone, among all advisory locks of the database
_PARTS = sa.text(
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = CAST('history' AS regclass)"
)
_IN_DEFAULT = sa.text(
    "SELECT EXISTS (SELECT FROM history_default WHERE message >= :first AND message < :next)"
)
_NAME = re.compile(r"history_(\d+)")


class LedgerPurge:
    """Deletes what is old, the oldest first. A piece is a transaction: it can end after any."""

    def __init__(
        self, database: Database, retention: Retention, clock: Clock = dialect.now
    ) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock

    async def run(self) -> None:
        """Delete mails, earlier outcomes and sums that are old."""
        now = await self._database.read(partial(dialect.read_now, clock=self._clock))
        keep = self._retention
        mails = now - keep.message_days * DAY_MILLISECONDS
        # Whole days, as the history has a part for each.
        entries = (now // DAY_MILLISECONDS - keep.history_days) * DAY_MILLISECONDS
        hours = now - keep.total_days * DAY_MILLISECONDS
        await renew_parts(self._database, now, entries)
        for work in (
            partial(_purge_mails, limit=first_number(mails)),
            partial(_purge_early, limit=mails),
            partial(_purge_forgotten, limit=mails),
            partial(_purge_history, limit=first_number(entries)),
            partial(_purge_totals, limit=hours // HOUR_MILLISECONDS),
        ):
            await self._database.write_all(work)
        await self._database.empty_log()


def _purge_mails(connection: sa.Connection, limit: int) -> int:
    """Delete some of the oldest mails, whose numbers are below the limit; return how many."""
    found = connection.execute(_OLDEST, {"limit": limit}).all()
    if found:
        _forget_mails(connection, found)
    return len(found)


def _forget_mails(connection: sa.Connection, found: Sequence[Any]) -> None:
    """Delete mails that are the oldest of all. Their keys come first, as when they are recorded."""
    first, last = found[0].number, found[-1].number
    keys = sorted(mail_key(row.email_id, row.client) for row in found)
    connection.execute(sa.delete(mail_keys).where(mail_keys.c.key.in_(keys)))
    forget_tags(connection, ((row.number, row.client, row.tags) for row in found))
    for column in (
        *(recipients.c.message, history.c.message, message_ids.c.message, messages.c.number),
    ):
        connection.execute(sa.delete(column.table).where(column.between(first, last)))


def _purge_early(connection: sa.Connection, limit: int) -> int:
    """Delete some outcomes whose command has never come, with the keys of their mails."""
    column = early_outcomes.c
    old = sa.select(column.key).where(column.recorded_at < limit).limit(PURGE_MAILS)
    keys = sorted(set(connection.execute(old).scalars()))
    if keys:
        unnamed = sa.and_(mail_keys.c.key.in_(keys), mail_keys.c.message.is_(None))
        connection.execute(sa.delete(mail_keys).where(unnamed))
        connection.execute(sa.delete(early_outcomes).where(column.key.in_(keys)))
    return len(keys)


def _purge_forgotten(connection: sa.Connection, limit: int) -> int:
    """Delete some keys of mails that were forgotten long ago, unless they are in use again."""
    old = sa.select(forgotten_keys.c.key).where(forgotten_keys.c.at < limit).limit(PURGE_MAILS)
    keys = sorted(connection.execute(old).scalars())
    if keys:
        lock_keys(connection, keys)
        used = (
            sa.exists().where(messages.c.number == mail_keys.c.message),
            sa.exists().where(early_outcomes.c.key == mail_keys.c.key),
        )
        connection.execute(
            sa.delete(mail_keys).where(mail_keys.c.key.in_(keys), *map(sa.not_, used))
        )
        connection.execute(sa.delete(forgotten_keys).where(forgotten_keys.c.key.in_(keys)))
    return len(keys)


def _purge_history(connection: sa.Connection, limit: int) -> int:
    """Delete some of the oldest earlier outcomes."""
    key = tuple(history.primary_key.columns)
    old = sa.select(*key).where(history.c.message < limit).order_by(*key).limit(PURGE_ROWS)
    return connection.execute(sa.delete(history).where(sa.tuple_(*key).in_(old))).rowcount


def _purge_totals(connection: sa.Connection, limit: int) -> int:
    """Delete some of the sums of old hours."""
    key = tuple(totals.primary_key.columns)
    old = sa.select(*key).where(totals.c.hour < limit).limit(PURGE_ROWS)
    return connection.execute(sa.delete(totals).where(sa.tuple_(*key).in_(old))).rowcount


class HistoryPart(NamedTuple):
    """The part of one day: days since 1970 in UTC."""

    day: int

    @property
    def name(self) -> str:
        """The name of its table."""
        return f"history_{self.day}"

    @property
    def first(self) -> int:
        """The smallest number of its mails."""
        return first_number(self.day * DAY_MILLISECONDS)

    @property
    def next(self) -> int:
        """The smallest number of the mails of the next part."""
        return first_number((self.day + 1) * DAY_MILLISECONDS)


async def renew_parts(database: Database, now: int, limit: int) -> None:
    """Make the parts of the next days; drop those that end before `limit`, both milliseconds."""
    await database.write(lambda connection: _renew_parts(connection, now, limit))


def _renew_parts(connection: sa.Connection, now: int, limit: int) -> None:
    if connection.dialect.name != "postgresql":
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    parts = set(_parts(connection))
    for part in sorted(parts):
        if part.next <= first_number(limit):
            connection.exec_driver_sql(f"DROP TABLE {part.name}")
    today = now // DAY_MILLISECONDS
    for part in map(HistoryPart, range(today, today + DAYS_AHEAD + 1)):
        if part not in parts and not _has_rows_elsewhere(connection, part):
            connection.exec_driver_sql(
                f"CREATE TABLE {part.name} PARTITION OF history"
                f" FOR VALUES FROM ({part.first}) TO ({part.next})"
            )


def _parts(connection: sa.Connection) -> Iterator[HistoryPart]:
    for name in connection.execute(_PARTS).scalars():
        if found := _NAME.fullmatch(name):
            yield HistoryPart(int(found[1]))


def _has_rows_elsewhere(connection: sa.Connection, part: HistoryPart) -> bool:
    """Return whether rows of this day came before its part; PostgreSQL would refuse the part."""
    return bool(
        connection.execute(_IN_DEFAULT, {"first": part.first, "next": part.next}).scalar_one()
    )
