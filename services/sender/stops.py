"""The copy of the suppression list and the cancelled mails, in the database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.sender.claims import CANCELLED, CopiedSuppression, Stop, bits, find_stop, mail_key
from services.sender.tables import PURGE_ROWS, cancellations, claims, suppressions
from shared.batch import Batcher
from shared.contracts import (
    EmailCancelled,
    SendEmail,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
)
from shared.runtime.sealing import AddressHasher
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock, Prepared, chunks

# A removed entry is remembered for so long: an event from before its removal may wait for hours in
# a delay queue (shared.retry), and longer in the dead letters.
REMEMBER_REMOVED_SECONDS = 90 * 86_400
# The number of the lock between claims and cancellations, among the advisory locks of a database.
_LOCK = 0x706F7374_72696465

_ENTRY = ("address_key", "origin", "client", "list_id")
_OTHERS = ("categories", "reason", "expires_at", "version", "removed", "purge_at")


class SuppressionRow(NamedTuple):
    """An entry as it is kept, in the order of the table's columns."""

    address_key: str
    origin: str
    client: str
    list_id: str
    categories: int
    reason: str
    expires_at: int | None
    version: int
    removed: bool
    purge_at: int | None

    @property
    def entry(self) -> tuple[str, str, str, str]:
        """The columns that identify the entry."""
        return self[:4]

    @classmethod
    def of(cls, event: SuppressionAdded | SuppressionRemoved) -> "SuppressionRow":
        """Return the row that an event leads to."""
        each, removed = event.suppression, isinstance(event, SuppressionRemoved)
        expires_at = None if each.expires_at is None else _milliseconds(each.expires_at)
        ends = _milliseconds(event.at) if removed else expires_at
        keep = REMEMBER_REMOVED_SECONDS * MILLISECONDS_PER_SECOND
        return cls(
            address_key=each.address_key,
            origin=each.origin.value,
            client=each.client or "",
            list_id=each.list_id or "",
            categories=bits(each.categories),
            reason=each.reason,
            expires_at=expires_at,
            version=event.version,
            removed=removed,
            purge_at=None if ends is None else ends + keep,
        )


class CancellingCounts(NamedTuple):
    """The recipients of a cancelled mail, as in EmailCancelling; none before its first attempt."""

    waiting: int = 0
    undecided: int = 0
    ended: int = 0
    cancelled: int = 0


@dataclass
class StopChanges:
    """The changes of what stops mails that this process commits, or has committed.

    A claim from before the end of one may have overlooked it, however short ago that was.
    """

    ended: int = 0
    under_way: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a change, whose commit is in the block; one that failed may have committed."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            self.ended += 1

    def since(self, ended: int) -> bool:
        """Return whether there is one under way, or was one since `ended` was read."""
        return bool(self.under_way) or self.ended != ended


class StopTable:
    """The statements in the dialect of one database, built once."""

    def __init__(
        self, connection: sa.Connection, now: sa.ColumnElement[int], hasher: AddressHasher
    ) -> None:
        self._connection = connection
        self._now = now
        self._hasher = hasher

    def lock_claims(self, connection: sa.Connection, *, alone: bool) -> None:
        """Wait until the transaction can overlook no cancellation; claims share the lock.

        Without it a claim and a cancellation at the same time would not see each other, and the
        client would be told that a mail is cancelled which is sent.
        """
        dialect.lock(connection, _LOCK, alone=alone)

    def find(
        self, connection: sa.Connection, mails: Sequence[tuple[SendEmail, Sequence[str]]]
    ) -> Sequence[Mapping[str, Stop]]:
        """Return for each mail the recipients, of those named, that it is not to be sent to."""
        keys = {each: self._hasher.hash(each) for _, recipients in mails for each in recipients}
        entries = self._entries(connection, keys.values())
        ids = [mail_key(command) for command, _ in mails]
        cancelled = self._cancelled(connection, ids)
        return [
            dict.fromkeys(recipients, CANCELLED)
            if email_id in cancelled
            else {
                each: stop
                for each in recipients
                if (stop := find_stop(entries.get(keys[each], ()), command))
            }
            for (command, recipients), email_id in zip(mails, ids, strict=True)
        ]

    def apply(self, connection: sa.Connection, rows: Sequence[SuppressionRow]) -> None:
        """Keep each entry in its latest version, in whatever order they come."""
        latest: dict[tuple[str, ...], SuppressionRow] = {}
        for row in sorted(rows, key=lambda row: row.version):
            latest[row.entry] = row
        # In one order at all senders: two that change the same could wait for each other.
        for some in chunks(sorted(latest.values(), key=lambda row: row.entry)):
            self._apply.run(connection, some)

    def cancel(
        self, connection: sa.Connection, email_ids: Sequence[str]
    ) -> Sequence[CancellingCounts]:
        """Keep cancellations; return what is known of the recipients of each mail."""
        self.lock_claims(connection, alone=True)
        for some in chunks([(each,) for each in sorted({*email_ids})]):
            self._cancel.run(connection, some)
        known = self._run(connection, self._look_for_claims, ((each,) for each in {*email_ids}))
        rows = {key: [*group] for key, group in groupby(sorted(known), key=itemgetter(0))}
        return [_counted(rows.get(each, ())) for each in email_ids]

    def purge(self, connection: sa.Connection, remember: float) -> int:
        """Delete at most PURGE_ROWS of each: old cancellations, entries that count no more."""
        entry = tuple(suppressions.c[name] for name in _ENTRY)
        now = sa.select(self._now).scalar_subquery()
        limit = sa.select(self._now - round(remember * MILLISECONDS_PER_SECOND)).scalar_subquery()
        ended = sa.select(*entry).where(suppressions.c.purge_at < now).limit(PURGE_ROWS)
        old = sa.select(cancellations.c.email_id).where(cancellations.c.created_at < limit)
        return sum(
            connection.execute(statement).rowcount
            for statement in (
                sa.delete(suppressions).where(sa.tuple_(*entry).in_(ended)),
                sa.delete(cancellations).where(cancellations.c.email_id.in_(old.limit(PURGE_ROWS))),
            )
        )

    def _cancelled(self, connection: sa.Connection, email_ids: Sequence[str]) -> set[str]:
        """Return which of some mails were cancelled; mostly none is, which one look finds."""
        if self._look_for_any_cancelled.run(connection).first() is None:
            return set()
        rows = self._run(connection, self._look_for_cancelled, ((each,) for each in {*email_ids}))
        return {row[0] for row in rows}

    def _entries(
        self, connection: sa.Connection, keys: Iterable[str]
    ) -> Mapping[str, Sequence[CopiedSuppression]]:
        found: dict[str, list[CopiedSuppression]] = {}
        for key, origin, *more in self._run(connection, self._look, ((each,) for each in {*keys})):
            entry = CopiedSuppression(key, SuppressionOrigin(origin), *more)
            found.setdefault(key, []).append(entry)
        return found

    def _run(
        self, connection: sa.Connection, statement: Prepared, rows: Iterable[Sequence[Any]]
    ) -> Sequence[Any]:
        return [row for some in chunks([*rows]) for row in statement.run(connection, some)]

    @cached_property
    def _look(self) -> Prepared:
        """Select the entries of some addresses that count now."""
        table = suppressions.c
        given = dialect.rows(table.address_key)
        columns = (table.origin, table.client, table.list_id, table.categories, table.reason)
        lasts = sa.or_(table.expires_at.is_(None), table.expires_at > self._now)
        look = sa.select(table.address_key, *columns).where(
            table.address_key.in_(sa.select(given.c.address_key)), sa.not_(table.removed), lasts
        )
        return Prepared(self._connection, look)

    @cached_property
    def _look_for_any_cancelled(self) -> Prepared:
        look = sa.select(cancellations.c.email_id).limit(1)
        return Prepared(self._connection, look)

    @cached_property
    def _look_for_cancelled(self) -> Prepared:
        key = cancellations.c.email_id
        given = dialect.rows(key)
        return Prepared(self._connection, sa.select(key).where(key.in_(sa.select(given.c[0]))))

    @cached_property
    def _look_for_claims(self) -> Prepared:
        table = claims.c
        given = dialect.rows(table.email_id)
        columns = (table.email_id, table.recipient, table.token, table.final, table.kind)
        look = sa.select(*columns).where(table.email_id.in_(sa.select(given.c.email_id)))
        return Prepared(self._connection, look)

    @cached_property
    def _cancel(self) -> Prepared:
        given = dialect.rows(cancellations.c.email_id)
        insert = dialect.insert(self._connection, cancellations).from_select(
            ["email_id", "created_at"], sa.select(given.c.email_id, self._now).where(sa.true())
        )
        return Prepared(self._connection, insert.on_conflict_do_nothing())

    @cached_property
    def _apply(self) -> Prepared:
        given = dialect.rows(*suppressions.c)
        row = dialect.insert(self._connection, suppressions).from_select(
            [each.name for each in suppressions.c], sa.select(*given.c).where(sa.true())
        )
        upsert = row.on_conflict_do_update(
            index_elements=_ENTRY,
            set_={name: row.excluded[name] for name in _OTHERS},
            where=suppressions.c.version < row.excluded.version,
        )
        return Prepared(self._connection, upsert)


class StopStore:
    """Changes of what stops mails. Every method raises Retry when the database is away.

    `changes` are those of the `ClaimStore` of the same process.
    """

    def __init__(
        self,
        database: Database,
        hasher: AddressHasher,
        changes: StopChanges,
        clock: Clock = dialect.now,
    ) -> None:
        self._changes = changes
        self._database = HandlerDatabase(database, "the suppressed addresses")
        self._hasher = hasher
        self._clock = clock
        self._table: StopTable | None = None
        self._entries = Batcher(self._apply)
        self._cancellations = Batcher(self._cancel)

    async def apply(self, event: SuppressionAdded | SuppressionRemoved) -> None:
        """Keep an entry, unless a later version of it is kept."""
        await self._entries.add(SuppressionRow.of(event))

    async def cancel(self, email_id: str) -> CancellingCounts:
        """Keep a cancellation of a mail, by its `mail_key`; return what is known of the mail."""
        return await self._cancellations.add(email_id)

    async def is_empty(self) -> bool:
        """Return whether there is no entry of the suppression list, not even a removed one."""
        look = sa.select(suppressions.c.version).limit(1)
        return await self._database.read(lambda c: c.execute(look).first()) is None

    async def purge(self, remember: float) -> int:
        """Delete cancellations older than `remember` seconds and ended entries; return the count.

        An ended entry was removed, or has expired, REMEMBER_REMOVED_SECONDS ago.
        """
        return await self._database.write_all(lambda c: self._in(c).purge(c, remember))

    async def _apply(self, rows: Sequence[SuppressionRow]) -> Sequence[None]:
        with self._changes.one():
            await self._database.write(lambda c: self._in(c).apply(c, rows))
        return [None] * len(rows)

    async def _cancel(self, email_ids: Sequence[str]) -> Sequence[CancellingCounts]:
        with self._changes.one():
            return await self._database.write(lambda c: self._in(c).cancel(c, email_ids))

    def _in(self, connection: sa.Connection) -> StopTable:
        if self._table is None:
            self._table = StopTable(connection, self._clock(connection), self._hasher)
        return self._table


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * MILLISECONDS_PER_SECOND)


def _counted(rows: Iterable[Sequence[Any]]) -> CancellingCounts:
    """Count the recipients of a mail by its rows.

    A claim does not show whether MAIL has begun: most mails of a busy sender wait for a connection.
    """
    counts = dict.fromkeys(CancellingCounts._fields, 0)
    for _, _, token, final, kind in rows:
        if final:
            counts["cancelled" if kind == EmailCancelled.keys[0] else "ended"] += 1
        else:
            counts["waiting" if token is None else "undecided"] += 1
    return CancellingCounts(**counts)
