"""The evidence in the database: each event counted once, each change of a verdict remembered."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

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
        return await self._database.write(lambda connection: self._count(connection, observation))

    async def evidence(self, domain: str) -> Evidence:
        """Give the evidence on a domain, nothing at all for one never seen."""
        return await self._database.read(lambda connection: self._evidence(connection, domain))

    async def purge(self, remember: float) -> int:
        """Forget the events counted more than `remember` seconds ago; tell how many."""
        forgotten = 0
        while deleted := await self._database.write(
            lambda connection: self._purge_some(connection, remember)
        ):
            forgotten += deleted
        return forgotten

    def _count(self, connection: sa.Connection, observation: Observation) -> Change | None:
        if not self._is_new(connection, observation.event_id):
            return self._change_by(connection, observation.event_id)
        after = self._add(connection, observation)
        verdict = self._rule.change(after - observation.evidence, after)
        return None if verdict is None else self._note(connection, observation, verdict)

    def _evidence(self, connection: sa.Connection, domain: str) -> Evidence:
        statement = sa.select(domains.c.delivered, domains.c.bounced)
        row = connection.execute(statement.where(domains.c.domain == domain)).first()
        return Evidence() if row is None else Evidence(row.delivered, row.bounced)

    def _is_new(self, connection: sa.Connection, event_id: str) -> bool:
        # A copy on its way at another replica is waited for here, until it is committed.
        statement = dialect.insert(connection, seen).on_conflict_do_nothing(
            index_elements=["event_id"]
        )
        values = {"event_id": event_id, "seen_at": self._clock(connection)}
        inserted = connection.execute(statement.values(values))
        return inserted.rowcount == 1

    def _add(self, connection: sa.Connection, observation: Observation) -> Evidence:
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
        row = connection.execute(upsert.returning(old.delivered, old.bounced)).one()
        return Evidence(row.delivered, row.bounced)

    def _note(
        self, connection: sa.Connection, observation: Observation, verdict: Verdict
    ) -> Change:
        # The time is taken while the domain's row is locked, so times are in the order of changes.
        statement = sa.insert(changes).values(
            event_id=observation.event_id,
            domain=observation.domain,
            status=verdict,
            changed_at=self._clock(connection),
        )
        row = connection.execute(statement.returning(*changes.c)).one()
        return _change(row)

    def _change_by(self, connection: sa.Connection, event_id: str) -> Change | None:
        statement = sa.select(changes).where(changes.c.event_id == event_id)
        row = connection.execute(statement).first()
        return None if row is None else _change(row)

    def _purge_some(self, connection: sa.Connection, remember: float) -> int:
        limit = self._clock(connection) - round(remember * MILLISECONDS)
        old = sa.select(seen.c.event_id).where(seen.c.seen_at < limit).limit(PURGE_ROWS)
        return connection.execute(sa.delete(seen).where(seen.c.event_id.in_(old))).rowcount


# SQLite and PostgreSQL have these as functions of different names.
def _least(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one < other, one), else_=other)


def _greatest(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one > other, one), else_=other)


def _change(row: sa.Row[*tuple[Any, ...]]) -> Change:
    at = datetime.fromtimestamp(row.changed_at / MILLISECONDS, UTC)
    return Change(row.event_id, row.domain, Verdict(row.status), at)
