"""What is known of domains, for those who ask: reads that wait for no writer."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from services.classifier.record import Record, Totals
from services.classifier.rule import Evidence
from services.classifier.tables import STATUSES, domains, refusals, totals
from shared.contracts import Verdict
from shared.contracts.fields import END_OF_TIME, EPOCH
from shared.storage.database import Database

LAST_MILLISECOND = (END_OF_TIME - EPOCH) // timedelta(milliseconds=1) - 1
_ONE = sa.select(domains).where(domains.c.domain == sa.bindparam("of"))
_PAGE = (
    sa.select(domains)
    .where(domains.c.domain > sa.bindparam("after"))
    .order_by(domains.c.domain)
    .limit(sa.bindparam("most"))
)
_PAGE_OF_STATUS = _PAGE.where(domains.c.status == sa.bindparam("status"))
_REFUSALS = (
    sa.select(refusals)
    .where(refusals.c.domain.in_(sa.bindparam("of", expanding=True)))
    .order_by(*refusals.primary_key)
)
_TOTALS = sa.select(*(sa.func.coalesce(sa.func.sum(each), 0) for each in totals.c[1:]))

_Row = sa.Row[*tuple[Any, ...]]


class Catalogue:
    """Answers from the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, domain: str) -> Record:
        """Give what is known of a domain, nothing at all for one never seen."""
        found = await self._database.read_inline(
            lambda connection: _records(connection, connection.execute(_ONE, {"of": domain}).all())
        )
        return found[0] if found else Record(domain)

    async def page(self, status: Verdict | None, after: str, most: int) -> Sequence[Record]:
        """Give the next domains `after` one, by name, all or those of one status."""
        values: dict[str, object] = {"after": after, "most": most}
        query = _PAGE if status is None else _PAGE_OF_STATUS
        if status is not None:
            values["status"] = STATUSES.index(status)
        return await self._database.read(
            lambda connection: _records(connection, connection.execute(query, values).all())
        )

    async def totals(self) -> Totals:
        """Give the sums, at the same cost for any number of domains."""
        row = await self._database.read_inline(lambda connection: connection.execute(_TOTALS).one())
        return Totals(*map(int, row))


def _records(connection: sa.Connection, rows: Sequence[_Row]) -> Sequence[Record]:
    refused: dict[str, dict[str, int]] = {row.domain: {} for row in rows if row.refused}
    if refused:
        for each in connection.execute(_REFUSALS, {"of": list(refused)}):
            refused[each.domain][each.reply_class] = each.refused
    return [_record(row, refused.get(row.domain, {})) for row in rows]


def _record(row: _Row, refused: Mapping[str, int]) -> Record:
    return Record(
        row.domain,
        Evidence(row.delivered, row.bounced, row.undetermined, row.recipients),
        row.taken_back,
        _moment(row.first_event_at),
        _moment(row.last_event_at),
        refused,
    )


def _moment(milliseconds: int) -> datetime:
    """Return a time that an answer can hold; older releases kept any time of an event."""
    return EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), LAST_MILLISECOND))
