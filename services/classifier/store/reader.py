"""Reads of what is known about domains, which wait for no writer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.classifier.rule import Evidence, Mode, VerdictRule
from services.classifier.store.sql import STATUSES, domains, refusals, totals
from shared.contracts import Verdict
from shared.contracts.fields import END_OF_TIME, EPOCH
from shared.storage.database import Database

MAX_CACHED = 10_000  # records, some 10 MB; the oldest is dropped for the next
LAST_MILLISECOND = (END_OF_TIME - EPOCH) // timedelta(milliseconds=1) - 1
_ONE = sa.select(domains).where(domains.c.domain == sa.bindparam("of"))
_PAGE = (
    sa.select(domains)
    .where(domains.c.domain > sa.bindparam("after"))
    .order_by(domains.c.domain)
    .limit(sa.bindparam("limit"))
)
_PAGE_OF_STATUS = _PAGE.where(domains.c.status == sa.bindparam("status"))
_REFUSALS = (
    sa.select(refusals)
    .where(refusals.c.domain.in_(sa.bindparam("of", expanding=True)))
    .order_by(*refusals.primary_key)
)
_TOTALS = sa.select(*(sa.func.coalesce(sa.func.sum(each), 0) for each in totals.c[1:]))

_Row = sa.Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """The counts of a domain; all of them are zero for a domain never seen."""

    domain: str
    evidence: Evidence = field(default_factory=Evidence)
    taken_back: int = 0
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)

    def described(self, rule: VerdictRule) -> dict[str, Any]:
        """Return the fields of a DomainEvidence, judged by `rule`."""
        evidence = rule.mode is Mode.EVIDENCE
        return {
            "domain": self.domain,
            "status": rule.verdict(self.evidence),
            "delivered": self.evidence.delivered,
            "bounced": self.evidence.bounced,
            "since": self.first_event_at,
            "last_event_at": self.last_event_at,
            "reason": rule.reason(self.evidence),
            "refusals": self.refusals,
            "recipients": self.evidence.recipients if evidence else None,
            "taken_back": self.taken_back if evidence else None,
        }


class DomainTotals(NamedTuple):
    """Sums over all domains."""

    unknown: int
    catch_all: int
    not_catch_all: int
    delivered: int
    bounced: int


class DomainReader:
    """Reads the tables, and keeps a record in memory for up to `cache_seconds`; 0 keeps none."""

    def __init__(
        self,
        database: Database,
        cache_seconds: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._cached: dict[str, tuple[float, DomainRecord]] = {}  # by domain, with the time

    async def record(self, domain: str) -> DomainRecord:
        """Return the record of a domain; it is empty for a domain never seen."""
        now = self._clock()
        cached = self._cached.get(domain)
        if cached and now - cached[0] < self._cache_seconds:
            return cached[1]
        found = await self._database.read_inline(
            lambda connection: _records(connection, connection.execute(_ONE, {"of": domain}).all())
        )
        record = found[0] if found else DomainRecord(domain)
        self._keep(now, record)
        return record

    async def page(self, status: Verdict | None, after: str, limit: int) -> Sequence[DomainRecord]:
        """Return the next domains `after` one, by name, all or those of one status."""
        values: dict[str, object] = {"after": after, "limit": limit}
        query = _PAGE if status is None else _PAGE_OF_STATUS
        if status is not None:
            values["status"] = STATUSES.index(status)
        return await self._database.read(
            lambda connection: _records(connection, connection.execute(query, values).all())
        )

    async def totals(self) -> DomainTotals:
        """Return the sums, at the same cost for any number of domains."""
        row = await self._database.read_inline(lambda connection: connection.execute(_TOTALS).one())
        return DomainTotals(*map(int, row))

    def _keep(self, read_at: float, record: DomainRecord) -> None:
        # A record ages from the beginning of its read on.
        if not self._cache_seconds:
            return
        self._cached.pop(record.domain, None)
        if len(self._cached) >= MAX_CACHED:
            del self._cached[next(iter(self._cached))]
        self._cached[record.domain] = read_at, record


def _records(connection: sa.Connection, rows: Sequence[_Row]) -> Sequence[DomainRecord]:
    refused: dict[str, dict[str, int]] = {row.domain: {} for row in rows if row.refused}
    if refused:
        for each in connection.execute(_REFUSALS, {"of": list(refused)}):
            refused[each.domain][each.reply_class] = each.refused
    return [_record(row, refused.get(row.domain, {})) for row in rows]


def _record(row: _Row, refused: Mapping[str, int]) -> DomainRecord:
    return DomainRecord(
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
