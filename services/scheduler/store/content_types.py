"""The content types in the database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from services.scheduler.content import Content
from services.scheduler.plan import Key
from services.scheduler.store.due import moment
from services.scheduler.store.tables import content_types, runs, subscriptions
from shared.contracts import (
    ContentResult,
    ContentSummary,
    ContentType,
    ListContentTypes,
    SaveContentType,
)
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

_COLUMNS = tuple(content_types.c)
_KEY = (content_types.c.client, content_types.c.name)
_SUMMARY = tuple(each for each in _COLUMNS if each.name not in {"html", "text"})

Conditions = tuple[sa.ColumnElement[bool], ...]


class Pause(NamedTuple):
    """The time from which a content type is paused, and the reason in words."""

    at: datetime
    reason: str


class ContentStore:
    """The content types. Every method raises Retry without the database."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the content types")
        self._clock = clock

    async def save(self, asked: SaveContentType) -> tuple[ContentResult, ContentType | None]:
        """Create a content type, or replace one; the same templates again change nothing."""
        return await self._database.write(lambda c: self._save(c, asked))

    async def describe(self, key: Key) -> ContentType | None:
        """Return a content type."""
        return await self._database.read(lambda c: _find(c, key))

    async def delete(self, key: Key) -> ContentResult:
        """Delete a content type that no subscription has."""
        return await self._database.write(lambda c: _delete(c, key))

    async def page(self, asked: ListContentTypes) -> tuple[Sequence[ContentSummary], str | None]:
        """Return a page by client and name, and the cursor of the next one."""
        look = sa.select(*_SUMMARY).order_by(*_KEY).limit(asked.limit + 1)
        if asked.client is not None:
            look = look.where(content_types.c.client == asked.client)
        if asked.paused:
            look = look.where(content_types.c.paused_at.is_not(None))
        if asked.after is not None:
            client, _, name = asked.after.partition("/")
            look = look.where(sa.tuple_(*_KEY) > sa.tuple_(sa.literal(client), sa.literal(name)))
        rows = await self._database.read(lambda c: c.execute(look).all())
        found = [ContentSummary.model_validate(_fields(row)) for row in rows[: asked.limit]]
        more = len(rows) > len(found)
        return found, f"{found[-1].client or ''}/{found[-1].name}" if more else None

    async def find(self, keys: Iterable[Key]) -> Mapping[Key, Content]:
        """Return content types in their newest versions, without those that are unknown."""
        wanted = sorted(keys)
        look = sa.select(*_COLUMNS).where(sa.tuple_(*_KEY).in_(wanted))
        rows = await self._database.read(lambda c: c.execute(look).all())
        return {(row.client, row.name): _content(row) for row in rows}

    async def pause(self, key: Key, reason: str, email_id: str) -> Pause | None:
        """Send no mail of a content type from now on, because of a report on a mail.

        Return the pause, None if another report has paused it before. One report pauses once.
        """
        paused = await self._database.write(lambda c: self._pause(c, _is(key), reason, email_id))
        return paused.get(key[1])

    async def pause_all(self, client: str, reason: str, event_id: str) -> Mapping[str, Pause]:
        """Send no mail of any content type of a client from now on, because of an event.

        Return the pauses by name, without those of other reasons. One event pauses once.
        """
        own = (content_types.c.client == client,)
        return await self._database.write(lambda c: self._pause(c, own, reason, event_id))

    async def resume(self, key: Key) -> ContentType | None:
        """Send its mail again, what has become due meanwhile too. Return the content type."""
        await self._database.write(lambda c: _resume(c, key))
        return await self.describe(key)

    def _save(
        self, connection: sa.Connection, asked: SaveContentType
    ) -> tuple[ContentResult, ContentType | None]:
        key, now = (asked.client or "", asked.name), dialect.read_now(connection, self._clock)
        given = {name: getattr(asked, name) for name in ("subject", "title", "html", "text")}
        found = _find(connection, key, lock=True)
        if found is None:
            if asked.replaces:
                return ContentResult.UNKNOWN, None
            new = {"version": 1, "created_at": now, "changed_at": now, **given}
            values = {"client": key[0], "name": key[1], **new}
            insert = dialect.insert(connection, content_types).values(values)
            # Another scheduler may have created it since.
            made = connection.execute(insert.on_conflict_do_nothing()).rowcount
            result = ContentResult.CREATED if made else ContentResult.EXISTS
            return result, _find(connection, key)
        if not asked.replaces:
            return ContentResult.EXISTS, found
        if any(getattr(found, name) != value for name, value in given.items()):
            changes = {"version": found.version + 1, "changed_at": now, **given}
            connection.execute(sa.update(content_types).where(*_is(key)).values(changes))
        return ContentResult.CHANGED, _find(connection, key)

    def _pause(
        self, connection: sa.Connection, which: Conditions, reason: str, by: str
    ) -> Mapping[str, Pause]:
        values = {
            "paused_at": dialect.read_now(connection, self._clock),
            "paused_for": reason,
            "paused_by": by,
        }
        table = content_types.c
        change = sa.update(content_types).where(
            *which, table.paused_at.is_(None), table.paused_by.is_distinct_from(by)
        )
        connection.execute(change.values(values))
        look = sa.select(table.name, table.paused_at, table.paused_for).where(
            *which, table.paused_at.is_not(None), table.paused_by == by
        )
        rows = connection.execute(look)
        return {row.name: Pause(moment(row.paused_at), row.paused_for) for row in rows}


def _content(row: sa.Row[tuple[object, ...]]) -> Content:
    return Content(
        name=row.name,
        title=row.title,
        version=row.version,
        paused=row.paused_at is not None,
        subject=row.subject,
        html=row.html,
        text=row.text,
    )


def _find(connection: sa.Connection, key: Key, *, lock: bool = False) -> ContentType | None:
    look = sa.select(*_COLUMNS).where(*_is(key))
    row = connection.execute(look.with_for_update() if lock else look).first()
    return None if row is None else ContentType.model_validate(_fields(row))


def _delete(connection: sa.Connection, key: Key) -> ContentResult:
    # Locked, so that no subscription is added to it: see `SubscriptionStore`.
    if _find(connection, key, lock=True) is None:
        return ContentResult.UNKNOWN
    client, name = key
    uses = sa.select(subscriptions.c.id).where(
        subscriptions.c.client == client, subscriptions.c.content_type == name
    )
    if connection.execute(uses.limit(1)).first():
        return ContentResult.IN_USE
    connection.execute(sa.delete(content_types).where(*_is(key)))
    return ContentResult.DELETED


def _resume(connection: sa.Connection, key: Key) -> None:
    change = sa.update(content_types).where(*_is(key), content_types.c.paused_at.is_not(None))
    if not connection.execute(change.values(paused_at=None, paused_for=None)).rowcount:
        return
    names = ("published", "unknown_mailboxes", "complaints")
    excuse = sa.update(runs).where(runs.c.client == key[0], runs.c.content_type == key[1])
    connection.execute(excuse.values({f"excused_{name}": runs.c[name] for name in names}))


def _is(key: Key) -> Conditions:
    return tuple(column == value for column, value in zip(_KEY, key, strict=True))


def _fields(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    fields = dict(row._mapping) | {"client": row.client or None}  # noqa: SLF001 -- its public name
    for name in ("created_at", "changed_at", "paused_at"):
        fields[name] = None if fields[name] is None else moment(fields[name])
    return fields
