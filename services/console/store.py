"""The stores of what operators did, and of the sessions that they have ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock

MIGRATIONS = Path(__file__).parent / "migrations"
STORE_SECONDS = 10.0  # for a transaction: an operator waits for it
PURGE_ROWS = 1000  # of a transaction
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)

metadata = sa.MetaData()
actions = sa.Table(
    "actions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("remote", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("result", sa.Text),  # None until it is known
    sa.Index("actions_at", "at", "id"),
)
# Sessions that were logged out, until they would be over by themselves.
ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Index("ended_sessions_expires_at", "expires_at"),
)


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """An action of an operator from an address; `result` is None if it was never known."""

    id: str
    at: datetime
    operator: str
    remote: str
    action: str
    subject: str
    result: str | None


class ActionStore:
    """Keeps what operators did for some days. Every method raises Retry without the database."""

    def __init__(self, database: Database, keep_days: int, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the console's actions", STORE_SECONDS)
        self._keep = timedelta(days=keep_days) // _MILLISECOND
        self._clock = clock

    async def begin(
        self, identifier: str, operator: str, remote: str, action: str, subject: str
    ) -> None:
        """Keep an action that is about to be done."""
        row = {
            "id": identifier,
            "operator": operator,
            "remote": remote,
            "action": action,
            "subject": subject,
        }

        def work(connection: sa.Connection) -> None:
            at = dialect.read_now(connection, self._clock)
            connection.execute(sa.insert(actions).values(**row, at=at))

        await self._database.write(work)

    async def finish(self, identifier: str, result: str) -> None:
        """Keep the result of an action."""
        change = sa.update(actions).where(actions.c.id == identifier).values(result=result)
        await self._database.write(lambda c: c.execute(change))

    async def page(
        self, limit: int, before: tuple[int, str] | None = None
    ) -> Sequence[OperatorAction]:
        """Return the newest actions, or the newest of those before one of a time and an id."""
        query = sa.select(actions).order_by(actions.c.at.desc(), actions.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(sa.tuple_(actions.c.at, actions.c.id) < sa.tuple_(*before))
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [
            OperatorAction(
                row.id,
                datetime.fromtimestamp(row.at / MILLISECONDS_PER_SECOND, UTC),
                *(row.operator, row.remote, row.action, row.subject, row.result),
            )
            for row in rows
        ]

    async def purge(self) -> None:
        """Delete what is older than the days that it is kept."""

        def work(connection: sa.Connection) -> int:
            limit = dialect.read_now(connection, self._clock) - self._keep
            old = sa.select(actions.c.id).where(actions.c.at < limit).limit(PURGE_ROWS)
            gone = sa.delete(actions).where(actions.c.id.in_(old))
            return connection.execute(gone).rowcount

        await self._database.write_all(work)


class EndedSessionStore:
    """Keeps the ids of ended sessions. Every method raises Retry without the database."""

    def __init__(self, database: Database, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the console's sessions", STORE_SECONDS)
        self._clock = clock

    async def add(self, identifier: str, expires_at: float) -> None:
        """Keep the id of a session that would be over at a Unix time; harmless if it is kept."""
        row = {"id": identifier, "expires_at": round(expires_at * MILLISECONDS_PER_SECOND)}

        def work(connection: sa.Connection) -> None:
            insert = dialect.insert(connection, ended_sessions).values(row)
            connection.execute(insert.on_conflict_do_nothing())

        await self._database.write(work)

    async def ids(self) -> frozenset[str]:
        """Return all ids, which are few: the sessions that operators ended in a day or so."""
        query = sa.select(ended_sessions.c.id)
        return frozenset(await self._database.read(lambda c: c.execute(query).scalars().all()))

    async def purge(self) -> None:
        """Delete the sessions that are over by themselves, also by a clock that is a day late."""

        def work(connection: sa.Connection) -> None:
            limit = dialect.read_now(connection, self._clock) - _DAY // _MILLISECOND
            connection.execute(sa.delete(ended_sessions).where(ended_sessions.c.expires_at < limit))

        await self._database.write(work)
