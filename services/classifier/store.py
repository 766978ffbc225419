"""The evidence in the database: each event counted once, each change of a verdict remembered."""

from collections.abc import Mapping
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

_KNOWN = sa.select(domains.c.delivered, domains.c.bounced).where(
    domains.c.domain == sa.bindparam("of")
)
_Row = sa.Row[*tuple[Any, ...]]


class EvidenceStore:
    """The evidence on all domains, under one rule."""

    def __init__(self, database: Database, rule: Rule, clock: Clock = dialect.now) -> None:
        self._database = database
        self._rule = rule
        self._clock = clock
        self._texts: _Statements | None = None

    async def count(self, observation: Observation) -> Change | None:
        """Count an observation once, and give the change of verdict that it made, if any.

        The event's id and the counters change in one transaction. An event that comes again
        counts nothing, and gives the change that it made the first time.
        """
        return await self._database.write(lambda connection: self._count(connection, observation))

    async def evidence(self, domain: str) -> Evidence:
        """Give the evidence on a domain, nothing at all for one never seen."""
        return await self._database.read(
            lambda connection: _evidence(connection.execute(_KNOWN, {"of": domain}).first())
        )

    async def purge(self, remember: float) -> int:
        """Forget the events counted more than `remember` seconds ago; tell how many."""
        forgotten = 0
        while deleted := await self._database.write(
            lambda connection: self._purge_some(connection, remember)
        ):
            forgotten += deleted
        return forgotten

    def _count(self, connection: sa.Connection, observation: Observation) -> Change | None:
        say, event = self._on(connection), {"event_id": observation.event_id}
        if not connection.execute(say.marking, event).rowcount:
            return _change(connection.execute(say.noted, event).first())
        after = _evidence(connection.execute(say.adding, _added(observation)).one())
        verdict = self._rule.change(after - observation.evidence, after)
        if verdict is None:
            return None
        change = {**event, "domain": observation.domain, "status": verdict}
        return _change(connection.execute(say.noting, change).one())

    def _purge_some(self, connection: sa.Connection, remember: float) -> int:
        limit = self._clock(connection) - round(remember * MILLISECONDS)
        old = sa.select(seen.c.event_id).where(seen.c.seen_at < limit).limit(PURGE_ROWS)
        return connection.execute(sa.delete(seen).where(seen.c.event_id.in_(old))).rowcount

    def _on(self, connection: sa.Connection) -> "_Statements":
        if self._texts is None:
            self._texts = _Statements(connection, self._clock(connection))
        return self._texts


class _Statements:
    """What is said to one kind of database, made once: making it costs more than running it."""

    def __init__(self, connection: sa.Connection, now: sa.ColumnElement[int]) -> None:
        # A copy on its way at another replica is waited for here, until it is committed.
        mark = dialect.insert(connection, seen).values(seen_at=now)
        self.marking = mark.on_conflict_do_nothing(index_elements=["event_id"])
        self.adding = _adding(dialect.insert(connection, domains))
        # The time is taken while the domain's row is locked, so times are in the order of changes.
        self.noting = sa.insert(changes).values(changed_at=now).returning(*changes.c)
        self.noted = sa.select(changes).where(changes.c.event_id == sa.bindparam("event_id"))


def _adding(insert: dialect.Insert) -> sa.Executable:
    old, new = domains.c, insert.excluded
    upsert = insert.on_conflict_do_update(
        index_elements=["domain"],
        set_={
            "delivered": old.delivered + new.delivered,
            "bounced": old.bounced + new.bounced,
            "first_event_at": _least(old.first_event_at, new.first_event_at),
            "last_event_at": _greatest(old.last_event_at, new.last_event_at),
        },
    )
    return upsert.returning(old.delivered, old.bounced)


# SQLite and PostgreSQL have these as functions of different names.
def _least(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one < other, one), else_=other)


def _greatest(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one > other, one), else_=other)


def _added(observation: Observation) -> Mapping[str, Any]:
    """Give the row of a domain that knows this observation alone."""
    at = round(observation.at.timestamp() * MILLISECONDS)
    return {
        "domain": observation.domain,
        "delivered": observation.evidence.delivered,
        "bounced": observation.evidence.bounced,
        "first_event_at": at,
        "last_event_at": at,
    }


def _evidence(row: _Row | None) -> Evidence:
    return Evidence() if row is None else Evidence(row.delivered, row.bounced)


def _change(row: _Row | None) -> Change | None:
    if row is None:
        return None
    at = datetime.fromtimestamp(row.changed_at / MILLISECONDS, UTC)
    return Change(row.event_id, row.domain, Verdict(row.status), at)
