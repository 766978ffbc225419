"""The evidence in the database: each event counted once, each change of a verdict remembered."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.classifier.evidence import Change, Evidence, Observation, Rule
from services.classifier.tables import changes, domains, seen
from shared import dialect
from shared.contracts import Verdict
from shared.database import Database
from shared.dialect import MILLISECONDS, Clock

PURGE_ROWS = 5000  # a transaction: events wait for no longer than such a piece takes


class EvidenceStore:
    """The evidence on all domains, under one rule."""

    def __init__(self, database: Database, rule: Rule, clock: Clock = dialect.now) -> None:
        self._database = database
        self._rule = rule
        self._clock = clock

    async def count(self, observation: Observation) -> Change | None:
        """Count an observation once, and give the change of verdict that it made, if any.

        The event's id and the counters change in one transaction. An event that comes again
        counts nothing, and gives the change that it made the first time.
        """
        async with self._database.writing() as connection:
            if not await self._is_new(connection, observation.event_id):
                return await self._change_by(connection, observation.event_id)
            after = await self._add(connection, observation)
            verdict = self._rule.change(after - observation.evidence, after)
            if verdict is None:
                return None
            return await self._note(connection, observation, verdict)

    async def evidence(self, domain: str) -> Evidence:
        """Give the evidence on a domain, nothing at all for one never seen."""
        statement = sa.select(domains.c.delivered, domains.c.bounced)
        async with self._database.reading() as connection:
            found = await connection.execute(statement.where(domains.c.domain == domain))
            row = found.first()
        return Evidence() if row is None else Evidence(row.delivered, row.bounced)

    async def purge(self, remember: float) -> int:
        """Forget the events counted more than `remember` seconds ago; tell how many."""
        forgotten = 0
        while deleted := await self._purge_some(remember):
            forgotten += deleted
        return forgotten

    async def _is_new(self, connection: AsyncConnection, event_id: str) -> bool:
        # A copy on its way at another replica is waited for here, until it is committed.
        statement = dialect.insert(connection, seen).on_conflict_do_nothing(
            index_elements=["event_id"]
        )
        values = {"event_id": event_id, "seen_at": self._clock(connection)}
        inserted = await connection.execute(statement.values(values))
        return inserted.rowcount == 1

    async def _add(self, connection: AsyncConnection, observation: Observation) -> Evidence:
        at = round(observation.at.timestamp() * MILLISECONDS)
        statement = dialect.insert(connection, domains).values(
            domain=observation.domain,
            delivered=observation.evidence.delivered,
            bounced=observation.evidence.bounced,
            first_event_at=at,
            last_event_at=at,
        )
        old, new = domains.c, statement.excluded
        upsert = statement.on_conflict_do_update(
            index_elements=["domain"],
            set_={
                "delivered": old.delivered + new.delivered,
                "bounced": old.bounced + new.bounced,
                "first_event_at": _least(old.first_event_at, new.first_event_at),
                "last_event_at": _greatest(old.last_event_at, new.last_event_at),
            },
        )
        row = (await connection.execute(upsert.returning(old.delivered, old.bounced))).one()
        return Evidence(row.delivered, row.bounced)

    async def _note(
        self, connection: AsyncConnection, observation: Observation, verdict: Verdict
    ) -> Change:
        # The time is taken while the domain's row is locked, so times are in the order of changes.
        statement = sa.insert(changes).values(
            event_id=observation.event_id,
            domain=observation.domain,
            status=verdict,
            changed_at=self._clock(connection),
        )
        row = (await connection.execute(statement.returning(*changes.c))).one()
        return _change(row)

    async def _change_by(self, connection: AsyncConnection, event_id: str) -> Change | None:
        statement = sa.select(changes).where(changes.c.event_id == event_id)
        row = (await connection.execute(statement)).first()
        return None if row is None else _change(row)

    async def _purge_some(self, remember: float) -> int:
        async with self._database.writing() as connection:
            limit = self._clock(connection) - round(remember * MILLISECONDS)
            old = sa.select(seen.c.event_id).where(seen.c.seen_at < limit).limit(PURGE_ROWS)
            deleted = await connection.execute(sa.delete(seen).where(seen.c.event_id.in_(old)))
            return deleted.rowcount


# SQLite and PostgreSQL have these as functions of different names.
def _least(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one < other, one), else_=other)


def _greatest(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one > other, one), else_=other)


def _change(row: sa.Row[*tuple[Any, ...]]) -> Change:
    at = datetime.fromtimestamp(row.changed_at / MILLISECONDS, UTC)
    return Change(row.event_id, row.domain, Verdict(row.status), at)
