"""The suppression list in the database, and which of its changes are still to be announced."""

import base64
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa

from services.ledger.mails import HOUR_MILLISECONDS
from services.ledger.store.sql import suppressions
from services.ledger.suppressions import (
    EntryKey,
    StoredSuppression,
    SuppressionCause,
    added,
    after_cause,
    forgotten,
    once,
    removed,
)
from shared.batch import Batcher
from shared.contracts import ListSuppressions, NewSuppression, SuppressionOrigin
from shared.runtime.sealing import AddressHasher
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

PIECE_ROWS = 500  # of a transaction that changes many entries
DAY_HOURS = 24
PREFIXES = tuple(f"{number:02x}" for number in range(256))  # of the keys of addresses

_COLUMNS = tuple(suppressions.c)
_KEY = tuple(suppressions.primary_key.columns)
_KEY_NAMES = [each.name for each in _KEY]
_PRESENT = sa.not_(suppressions.c.removed)


class SuppressionStore:
    """The suppression list. Every method raises Retry when the database is away.

    `on_change` is called after each commit that changes an entry. A bounce counts for `counts_for`
    milliseconds, for good if None: see `after_cause`.
    """

    def __init__(
        self,
        database: Database,
        hasher: AddressHasher,
        counts_for: int | None,
        on_change: Callable[[], None],
        clock: Clock = dialect.now,
    ) -> None:
        self._tables = HandlerDatabase(database, "the suppression list")
        self._hasher = hasher
        self._counts_for = counts_for
        self._on_change = on_change
        self._clock = clock
        self._causes = Batcher(self._record_causes)

    async def add(
        self, entries: Sequence[NewSuppression], email_id: str | None = None
    ) -> Sequence[StoredSuppression]:
        """Add entries; replace those that exist, unless they are the same. Return all of them.

        `email_id` is the message that led to them.
        """
        return await self._change(partial(self._add, entries=entries, email_id=email_id))

    async def suppress(self, found: SuppressionCause) -> None:
        """Add the entry of a cause, or make it last. A cause that was seen changes nothing."""
        await self._causes.add(found)

    async def remove(
        self,
        emails: Sequence[str],
        client: str | None,
        origin: SuppressionOrigin | None = None,
        list_id: str | None = None,
    ) -> Sequence[StoredSuppression]:
        """Remove entries of a client and those of bounces; without a client those of all clients.

        With a list those of this list alone: an opt-out of all lists stays. Return those that were
        removed.
        """
        of_all = suppressions.c.client == ""
        whose = of_all
        if client is not None:
            bounces = suppressions.c.origin == SuppressionOrigin.BOUNCE.value
            whose = sa.or_(suppressions.c.client == client, sa.and_(of_all, bounces))
        conditions = [whose]
        if origin is not None:
            conditions.append(suppressions.c.origin == origin.value)
        if list_id is not None:
            conditions.append(suppressions.c.list_id == list_id)
        which = sa.and_(*conditions)
        return await self._change(partial(self._remove, emails=emails, which=which))

    async def forget(self, email: str) -> Sequence[StoredSuppression]:
        """Remove the entries of an address that are no opt-outs; of these keep the hash alone."""
        return await self._change(partial(self._forget, email=email))

    async def describe(self, email: str, client: str | None) -> Sequence[StoredSuppression]:
        """Return the entries of an address that count for a client, for any if None."""
        which = suppressions.c.address_key == self._hasher.hash(email)
        if client is not None:
            which = sa.and_(which, suppressions.c.client.in_(["", client]))
        return await self._tables.read(lambda c: self._present(c, which))

    async def page(self, question: ListSuppressions) -> tuple[Sequence[StoredSuppression], str]:
        """Return a page of the entries, the newest first, and the cursor of the next one.

        The cursor is empty after the last page.
        """
        which = [] if question.origin is None else [suppressions.c.origin == question.origin.value]
        if question.after is not None:
            place = _place(question.after)
            which.append(sa.tuple_(suppressions.c.at, *_KEY) < sa.tuple_(*place))
        if question.client is not None:
            # Bounces stop the mail of all clients; a list of them names the recipients of others.
            which.append(suppressions.c.listed_for == question.client)
        found = await self._tables.read(
            lambda c: self._present(c, sa.and_(sa.true(), *which), question.limit + 1)
        )
        shown = found[: question.limit]
        return shown, _cursor(shown[-1]) if len(found) > len(shown) else ""

    async def unannounced(self) -> Sequence[StoredSuppression]:
        """Return some entries whose event is not confirmed, the latest changes first."""
        look = (
            sa.select(*_COLUMNS)
            .where(sa.not_(suppressions.c.announced))
            .order_by(suppressions.c.version.desc())
            .limit(PIECE_ROWS)
        )
        return await self._tables.read(
            lambda c: [StoredSuppression(*row) for row in c.execute(look)]
        )

    async def announced(self, entries: Sequence[StoredSuppression]) -> None:
        """Keep that the events of these versions are confirmed."""
        await self._tables.write(
            lambda c: c.execute(_ANNOUNCED, [_named(each) for each in entries])
        )

    async def announce_again(self, prefixes: Iterable[str] = PREFIXES) -> None:
        """Mark entries to be announced again, by the first two digits of their address keys."""
        for each in prefixes:
            begin, end = suppressions.c.address_key >= each, suppressions.c.address_key < f"{each}g"
            again = sa.update(suppressions).values(announced=False).where(begin, end)
            await self._tables.write(partial(sa.Connection.execute, statement=again))
        self._on_change()

    async def announce_in_turn(self) -> None:
        """Mark the entries of this hour to be announced again, each entry once a day.

        It repairs the copy of a sender whose database was restored from a backup.
        """
        hour = await self._tables.read(self._now) // HOUR_MILLISECONDS % DAY_HOURS
        await self.announce_again(PREFIXES[hour::DAY_HOURS])

    async def purge(self) -> int:
        """Delete the entries that were removed or have expired long ago; return how many."""
        deleted = await self._tables.write_all(self._purge)
        await self._tables.empty_log()
        return deleted

    def _add(
        self, connection: sa.Connection, entries: Sequence[NewSuppression], email_id: str | None
    ) -> Sequence[StoredSuppression]:
        now = self._now(connection)
        new = once(added(each, self._hasher, now, email_id) for each in entries)
        _put(connection, new)
        found = _find(connection, [each.address_key for each in new])
        return [found[each.entry] for each in new]

    async def _record_causes(self, causes: Sequence[SuppressionCause]) -> Sequence[None]:
        await self._change(partial(self._suppress, causes=causes))
        return [None] * len(causes)

    def _suppress(
        self, connection: sa.Connection, causes: Sequence[SuppressionCause]
    ) -> Sequence[StoredSuppression]:
        now = self._now(connection)
        keys = [self._hasher.hash(each.email) for each in causes]
        known = _find(connection, keys)
        changed: dict[EntryKey, StoredSuppression] = {}
        for found, key in sorted(zip(causes, keys, strict=True), key=lambda pair: pair[0].at):
            entry = found.entry(key)
            after = after_cause(known.get(entry), found, key, self._counts_for, now)
            if after is not None:
                changed[entry] = known[entry] = after
        _put(connection, once(changed.values()))
        return [*changed.values()]

    def _remove(
        self, connection: sa.Connection, emails: Sequence[str], which: sa.ColumnElement[bool]
    ) -> Sequence[StoredSuppression]:
        now = self._now(connection)
        keys = [self._hasher.hash(each) for each in emails]
        found = once(_find(connection, keys, sa.and_(which, _PRESENT)).values())
        _put(connection, [removed(each, now) for each in found])
        return found

    def _forget(self, connection: sa.Connection, email: str) -> Sequence[StoredSuppression]:
        now = self._now(connection)
        found = once(_find(connection, [self._hasher.hash(email)]).values())
        _put(connection, [forgotten(each, now) for each in found])
        return found

    def _purge(self, connection: sa.Connection) -> int:
        ended = suppressions.c.purge_at < self._now(connection)
        old = sa.select(*_KEY).where(ended, suppressions.c.announced).limit(PIECE_ROWS)
        return connection.execute(sa.delete(suppressions).where(sa.tuple_(*_KEY).in_(old))).rowcount

    def _present(
        self,
        connection: sa.Connection,
        which: sa.ColumnElement[bool],
        limit: int | None = None,
    ) -> Sequence[StoredSuppression]:
        """Return entries that count now, the newest first."""
        now, expires_at = self._now(connection), suppressions.c.expires_at
        look = sa.select(*_COLUMNS).where(
            which, _PRESENT, sa.or_(expires_at.is_(None), expires_at > now)
        )
        order = (suppressions.c.at.desc(), *(each.desc() for each in _KEY))
        rows = connection.execute(look.order_by(*order).limit(limit))
        return [StoredSuppression(*row) for row in rows]

    def _now(self, connection: sa.Connection) -> int:
        return dialect.read_now(connection, self._clock)

    async def _change(
        self, work: Callable[[sa.Connection], Sequence[StoredSuppression]]
    ) -> Sequence[StoredSuppression]:
        changed = await self._tables.write(work)
        if changed:
            self._on_change()
        return changed


_ANNOUNCED = (
    sa.update(suppressions)
    .values(
        announced=True,
        # Its event had the address; the entry is kept for its version alone.
        email=sa.case((suppressions.c.removed, sa.null()), else_=suppressions.c.email),
    )
    .where(
        *(each == sa.bindparam(f"of_{each.name}") for each in _KEY),
        suppressions.c.version == sa.bindparam("of_version"),
    )
)


def _put(connection: sa.Connection, entries: Sequence[StoredSuppression]) -> None:
    """Write entries, each in a version higher than before, unless they are there as they are."""
    if not entries:
        return
    row = dialect.insert(connection, suppressions)
    old, new = suppressions.c, row.excluded
    higher = sa.case((old.version >= new.version, old.version + 1), else_=new.version)
    values = {each.name: new[each.name] for each in _COLUMNS if each.name not in _KEY_NAMES}
    content = ("email", "categories", "reason", "email_id", "expires_at", "removed")
    differs = sa.or_(*(old[name].is_distinct_from(new[name]) for name in content))
    upsert = row.on_conflict_do_update(
        index_elements=_KEY_NAMES, set_={**values, "version": higher}, where=differs
    )
    connection.execute(upsert, [each._asdict() for each in entries])


def _find(
    connection: sa.Connection,
    address_keys: Sequence[str],
    which: sa.ColumnElement[bool] = sa.true(),  # noqa: B008 -- it has no state
) -> dict[EntryKey, StoredSuppression]:
    """Return the entries of some addresses, ended ones too, and lock them until the commit."""
    found: dict[EntryKey, StoredSuppression] = {}
    keys = sorted({*address_keys})
    for start in range(0, len(keys), PIECE_ROWS):
        some = keys[start : start + PIECE_ROWS]
        look = sa.select(*_COLUMNS).where(suppressions.c.address_key.in_(some), which)
        for row in connection.execute(look.order_by(*_KEY).with_for_update()):
            entry = StoredSuppression(*row)
            found[entry.entry] = entry
    return found


def _named(entry: StoredSuppression) -> dict[str, Any]:
    key = dict(zip(_KEY_NAMES, entry.entry, strict=True))
    return {f"of_{name}": value for name, value in {**key, "version": entry.version}.items()}


def _cursor(entry: StoredSuppression) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([entry.at, *entry.entry])).decode()


def _place(cursor: str) -> tuple[int, str, str, str, str]:
    """Return the place in the list of a cursor, which its contract has checked."""
    at, address_key, origin, client, list_id = orjson.loads(base64.urlsafe_b64decode(cursor))
    return at, address_key, origin, client, list_id
