"""Reclassification: after a change of the rule every domain gets its verdict by the new one."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.classifier.evidence import hashed
from services.classifier.rule import VerdictChange, VerdictRule, announce
from services.classifier.store.counting import CountingTransaction, DomainRow
from services.classifier.store.sql import domains, rules
from shared.contracts import Contract
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MAX_ROWS, Clock

_RULE = sa.select(rules).with_for_update()
_DOMAINS = (
    sa.select(*(domains.c[name] for name in DomainRow._fields))
    .where(domains.c.domain > sa.bindparam("after"))
    .order_by(domains.c.domain)
    .limit(sa.bindparam("limit"))
    .with_for_update()
)


class _Piece(NamedTuple):
    last: str | None  # the last domain of the piece; None when there was none
    changes: Sequence[VerdictChange]


class Reclassifier:
    """Judges all domains by `rule` if they were judged by another one.

    Events may be counted meanwhile. Replicas may do it at the same time, if they have one rule.
    """

    def __init__(
        self,
        database: Database,
        rule: VerdictRule,
        publish: Callable[[Contract], Awaitable[None]],
        clock: Clock = dialect.now,
    ) -> None:
        self._database = database
        self._rule = rule
        self._publish = publish
        self._clock = clock

    async def run(self) -> None:
        """Judge domains piece by piece, and announce each change after its commit.

        A piece is done when its changes are announced. After a crash before that, the next run
        announces them again, with the same ids. Raises Unavailable; another run continues.
        """
        after = await self._database.write(self._begin)
        while after is not None:
            piece = await self._database.write(partial(self._judge, after=after))
            for change in piece.changes:
                await self._publish(announce(change))
            after = piece.last
            await self._database.write(partial(self._done, to=after))

    def _begin(self, connection: sa.Connection) -> str | None:
        """Return the domain after which there is work to do, None when there is no work."""
        row = connection.execute(_RULE).one()
        if row.name == str(self._rule):
            return None if row.done_to is None else str(row.done_to)
        values = {"name": str(self._rule), "number": row.number + 1, "done_to": ""}
        connection.execute(sa.update(rules).values(values))
        return ""

    def _judge(self, connection: sa.Connection, after: str) -> _Piece:
        number = connection.execute(sa.select(rules.c.number)).scalar_one()
        found = connection.execute(_DOMAINS, {"after": after, "limit": MAX_ROWS})
        rows = [DomainRow(*row) for row in found]
        keys = {row.domain: hashed("rule", str(number), row.domain) for row in rows}
        transaction = CountingTransaction(connection, self._rule, self._clock)
        transaction.judge((row, keys[row.domain]) for row in rows)
        # The changes of the whole piece: a run before a crash may have made some of them.
        changes = transaction.end(list(keys.values()))
        return _Piece(rows[-1].domain if rows else None, changes)

    def _done(self, connection: sa.Connection, to: str | None) -> None:
        connection.execute(sa.update(rules).values(done_to=to))
