"""Bringing verdicts up to another rule: what was judged by the old one is judged anew."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.classifier.change import Change, announce
from services.classifier.counting import Counting, Row
from services.classifier.evidence import hashed
from services.classifier.rule import Rule
from services.classifier.statements import Statements
from services.classifier.tables import domains, rules
from shared.contracts import Contract
from shared.storage import dialect
from shared.storage.database import Database
from shared.storage.dialect import MAX_ROWS, Clock

_RULE = sa.select(rules).with_for_update()
_DOMAINS = (
    sa.select(*(domains.c[name] for name in Row._fields))
    .where(domains.c.domain > sa.bindparam("after"))
    .order_by(domains.c.domain)
    .limit(sa.bindparam("most"))
    .with_for_update()
)


class _Step(NamedTuple):
    last: str | None  # the last domain looked at; None when there was none
    changes: Sequence[Change]


class Revision:
    """Judges all domains by `rule` if they were judged by another one.

    Events may be counted meanwhile. Replicas may do it at the same time, if they have one rule.
    """

    def __init__(
        self,
        database: Database,
        rule: Rule,
        publish: Callable[[Contract], Awaitable[None]],
        clock: Clock = dialect.now,
    ) -> None:
        self._database = database
        self._rule = rule
        self._publish = publish
        self._clock = clock

    async def run(self) -> None:
        """Judge, piece by piece, and announce each change after its commit.

        A piece is done when its changes are announced. Who dies before that announces them again,
        with the same ids. Raises Unavailable; to run it again goes on where it was.
        """
        after = await self._database.write(self._begin)
        while after is not None:
            step = await self._database.write(partial(self._judge, after=after))
            for change in step.changes:
                await self._publish(announce(change))
            after = step.last
            await self._database.write(partial(self._done, to=after))

    def _begin(self, connection: sa.Connection) -> str | None:
        """Give the domain after which there is work to do, None when there is none."""
        row = connection.execute(_RULE).one()
        if row.name == str(self._rule):
            return None if row.done_to is None else str(row.done_to)
        values = {"name": str(self._rule), "number": row.number + 1, "done_to": ""}
        connection.execute(sa.update(rules).values(values))
        return ""

    def _judge(self, connection: sa.Connection, after: str) -> _Step:
        number = connection.execute(sa.select(rules.c.number)).scalar_one()
        rows = [
            Row(*row) for row in connection.execute(_DOMAINS, {"after": after, "most": MAX_ROWS})
        ]
        keys = {row.domain: hashed("rule", str(number), row.domain) for row in rows}
        counting = Counting(
            connection, Statements(connection.dialect.name), self._rule, self._clock
        )
        counting.judge((row, keys[row.domain]) for row in rows)
        # All of the piece: some may have been judged before their announcer died.
        changes = counting.end(list(keys.values()))
        return _Step(rows[-1].domain if rows else None, changes)

    def _done(self, connection: sa.Connection, to: str | None) -> None:
        connection.execute(sa.update(rules).values(done_to=to))
