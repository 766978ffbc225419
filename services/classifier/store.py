"""Events into the database: each counted once, each change of a verdict remembered."""

from collections.abc import Mapping, Sequence
from functools import partial

import sqlalchemy as sa

from services.classifier.change import Change
from services.classifier.counting import Counting
from services.classifier.evidence import Observation
from services.classifier.rule import Rule
from services.classifier.statements import Statements
from services.classifier.tables import changes, mails, seen
from services.classifier.tally import Tally
from shared.batch import Batcher
from shared.storage import dialect
from shared.storage.database import Database, as_handler_errors
from shared.storage.dialect import MILLISECONDS, Clock

PURGE_ROWS = 5000  # a transaction: events wait for no longer than such a piece takes

# The oldest are the first: looking at those alone needs no index of times.
_OLDEST = sa.select(seen).order_by(seen.c.number).limit(PURGE_ROWS).subquery()
OLD = (
    (seen.c.number, sa.select(_OLDEST.c.number).where(_OLDEST.c.seen_at < sa.bindparam("limit"))),
    (
        changes.c.key,
        sa.select(changes.c.key).where(changes.c.changed_at < sa.bindparam("limit")),
    ),
    (mails.c.mail, sa.select(mails.c.mail).where(mails.c.seen_at < sa.bindparam("limit"))),
)


class EvidenceStore:
    """Where events are counted, under one rule."""

    def __init__(self, database: Database, rule: Rule, clock: Clock = dialect.now) -> None:
        self._database = database
        self._rule = rule
        self._clock = clock
        self._statements: Statements | None = None
        self._batcher = Batcher(self._count_all)

    async def count(self, observations: Sequence[Observation]) -> Sequence[Change]:
        """Count observations once; give the changes of verdicts that they made, oldest first.

        Keys and counters change in one transaction. An event that comes again counts nothing,
        and gives the change that it made the first time. Raises Retry when the database is away,
        Reject when it cannot hold a value.
        """
        return await self._batcher.add(observations)

    async def _count_all(
        self, batch: Sequence[Sequence[Observation]]
    ) -> Sequence[Sequence[Change]]:
        with as_handler_errors("the evidence"):
            changes = await self._database.write(partial(self._count, batch=batch))
        by_key = {change.key: change for change in changes}
        return [_made_by(some, by_key) for some in batch]

    def _count(
        self, connection: sa.Connection, batch: Sequence[Sequence[Observation]]
    ) -> Sequence[Change]:
        tally = Tally.of([each for some in batch for each in some])
        try:
            return self._counting(connection).count(tally)
        finally:
            for _ in tally.clear():
                pass

    async def purge(self, remember: float) -> int:
        """Forget what was counted more than `remember` seconds ago; tell how many rows."""
        forgotten = 0
        for column, old in OLD:
            delete = sa.delete(column.table).where(column.in_(old.limit(PURGE_ROWS)))
            work = partial(self._purge_some, delete=delete, remember=remember)
            while deleted := await self._database.write(work):
                forgotten += deleted
        return forgotten

    def _purge_some(self, connection: sa.Connection, delete: sa.Delete, remember: float) -> int:
        # Asked for first: PostgreSQL uses no index to look for what a clock says row by row.
        now = connection.execute(sa.select(self._clock(connection))).scalar_one()
        limit = now - round(remember * MILLISECONDS)
        return connection.execute(delete, {"limit": limit}).rowcount

    def _counting(self, connection: sa.Connection) -> Counting:
        if self._statements is None:
            self._statements = Statements(connection.dialect.name)
        return Counting(connection, self._statements, self._rule, self._clock)


def _made_by(
    observations: Sequence[Observation], changes: Mapping[str, Change]
) -> Sequence[Change]:
    """Return the changes, by their keys, that some observations made; the oldest first."""
    if not changes:  # as nearly always
        return []
    keys = {each.key for each in observations}
    return [change for key, change in changes.items() if key in keys]
