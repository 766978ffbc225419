"""Counting events: each once, with the changes of verdicts that it makes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.classifier import hyperloglog
from services.classifier.evidence import (
    EvidenceBatch,
    MailOutcomes,
    Observation,
    mail_outcomes,
)
from services.classifier.rule import Evidence, Mode, VerdictChange, VerdictRule
from services.classifier.store import sql
from services.classifier.store.sql import STATUSES, changes, mails, processed_events
from shared.batch import Batcher
from shared.contracts import Kind
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock, Row, chunks, execute

BATCH_SECONDS = 0.02  # that an event waits for others: a transaction costs as much as many events
PURGE_ROWS = 5000  # a transaction: events wait for no longer than such a piece takes

_LIMIT = sa.bindparam("limit", type_=sa.BigInteger)
# The oldest rows are the first: a look at these alone needs no index of times.
_OLDEST = sa.select(processed_events).order_by(processed_events.c.number).limit(PURGE_ROWS)
_FIRST = _OLDEST.subquery()
OLD = (
    (processed_events.c.number, sa.select(_FIRST.c.number).where(_FIRST.c.processed_at < _LIMIT)),
    (changes.c.key, sa.select(changes.c.key).where(changes.c.changed_at < _LIMIT)),
    (mails.c.mail, sa.select(mails.c.mail).where(mails.c.seen_at < _LIMIT)),
)
_SUMS = ("unknown", "catch_all", "not_catch_all")  # in the order of STATUSES


class EvidenceStore:
    """The database that events are counted in, under one rule."""

    def __init__(self, database: Database, rule: VerdictRule, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the evidence")
        self._rule = rule
        self._clock = clock
        self._batcher = Batcher(self._count_all, wait_seconds=BATCH_SECONDS)

    async def count(self, observations: Sequence[Observation]) -> Sequence[VerdictChange]:
        """Count observations once; return the changes of verdicts that they made, oldest first.

        Keys and counters change in one transaction. An event that comes again counts nothing,
        and has the change that it made the first time. Raises Retry when the database is away,
        Reject when it cannot hold a value.
        """
        return await self._batcher.add(observations)

    async def purge(self, remember: float) -> int:
        """Delete rows of more than `remember` seconds ago; return their number."""
        deleted = 0
        for column, old in OLD:
            delete = sa.delete(column.table).where(column.in_(old.limit(PURGE_ROWS)))
            work = partial(self._purge_some, delete=delete, remember=remember)
            deleted += await self._database.write_all(work)
        return deleted

    def _purge_some(self, connection: sa.Connection, delete: sa.Delete, remember: float) -> int:
        # In a query of its own: PostgreSQL uses no index for a time that changes from row to row.
        now = dialect.read_now(connection, self._clock)
        limit = now - round(remember * MILLISECONDS_PER_SECOND)
        return connection.execute(delete, {"limit": limit}).rowcount

    async def _count_all(
        self, groups: Sequence[Sequence[Observation]]
    ) -> Sequence[Sequence[VerdictChange]]:
        made = await self._database.write(partial(self._count, groups=groups))
        by_key = {change.key: change for change in made}
        return [_made_by(group, by_key) for group in groups]

    def _count(
        self, connection: sa.Connection, groups: Sequence[Sequence[Observation]]
    ) -> Sequence[VerdictChange]:
        batch = EvidenceBatch([each for group in groups for each in group])
        try:
            return CountingTransaction(connection, self._rule, self._clock).count(batch)
        finally:
            batch.clear()


class DomainRow(NamedTuple):
    """A row of `domains`."""

    domain: str
    status: int
    delivered: int
    bounced: int
    refused: int
    undetermined: int
    taken_back: int
    recipients: int

    @property
    def evidence(self) -> Evidence:
        """The counts that the rule reads."""
        return Evidence(self.delivered, self.bounced, self.undetermined, self.recipients)


class CountingTransaction:
    """Counts in the transaction of one connection, under one rule.

    Every transaction writes tables, and rows in each, in one order: replicas wait for each other
    and never in a circle. The sums over all domains come last, as all transactions write them.
    """

    def __init__(self, connection: sa.Connection, rule: VerdictRule, clock: Clock) -> None:
        self._connection = connection
        self._rule = rule
        self._clock = sa.select(clock(connection))
        self._sums: Counter[str] = Counter()

    def count(self, batch: EvidenceBatch) -> Sequence[VerdictChange]:
        """Count new events; return the changes that all events of the batch have ever made."""
        copies = self._mark(batch.keys)
        if copies:
            batch = EvidenceBatch(batch.observations, frozenset(copies))
        hashes: Mapping[str, Sequence[int]] = {}
        if self._rule.mode is Mode.EVIDENCE:
            fresh = frozenset(batch.keys)
            self._take_back(batch, fresh)
            hashes = _recipients(batch.observations, fresh)
        refusals = [(*refusal, count) for refusal, count in sorted(batch.refusals.items())]
        self._run(sql.COUNT_REFUSALS, (), refusals)
        self._sums.update(delivered=batch.delivered, bounced=batch.bounced)
        judged = [key for names in chunks(batch.names) for key in self._add(batch, names, hashes)]
        return self.end([*copies, *judged])

    def judge(self, rows: Iterable[tuple[DomainRow, str]]) -> Sequence[str]:
        """Bring domains up to the rule, whose rows are locked; return the keys of those changed.

        The change of each domain is kept under the key that comes with it.
        """
        changed: dict[int, list[tuple[DomainRow, str]]] = defaultdict(list)
        for row, key in rows:
            status = STATUSES.index(self._rule.verdict(row.evidence))
            if status != row.status:
                changed[status].append((row, key))
                self._sums[_SUMS[row.status]] -= 1
                self._sums[_SUMS[status]] += 1
        for status, pairs in changed.items():
            self._run(sql.SET_STATUS, (status,), [(row.domain,) for row, _ in pairs])
            # While the rows are locked, so that times are in the order of changes.
            made = [(key, row.domain) for row, key in pairs]
            self._run(sql.KEEP_CHANGES, (status, self._now()), made)
        return [key for pairs in changed.values() for _, key in pairs]

    def end(self, keys: Sequence[str]) -> Sequence[VerdictChange]:
        """Add to the sums over all domains; return the changes that events of these keys made."""
        if any(self._sums.values()):
            sums = [self._sums[name] for name in (*_SUMS, "delivered", "bounced")]
            execute(self._connection, sql.ADD_TOTALS, sums)
        found = self._run(sql.FIND_CHANGES, (), [(key,) for key in keys])
        return [
            VerdictChange(
                domain,
                STATUSES[status],
                datetime.fromtimestamp(at / MILLISECONDS_PER_SECOND, UTC),
                key,
            )
            for domain, status, at, key in found
        ]

    def _run(self, text: str, values: Sequence[object], rows: Sequence[Row]) -> Sequence[Row]:
        return dialect.run(self._connection, text, rows, values)

    def _now(self) -> int:
        return int(self._connection.execute(self._clock).scalar_one())

    def _mark(self, keys: Sequence[str]) -> Sequence[str]:
        """Keep keys; return those that were known."""
        now = self._now()
        return [key for part in chunks(keys) for key in sql.mark(self._connection, part, now)]

    def _take_back(self, batch: EvidenceBatch, fresh: AbstractSet[str]) -> None:
        now = self._now()
        added = mail_outcomes(batch.observations, fresh)
        for part in chunks(sorted(added)):
            rows = [(name, added[name].delivered, added[name].refused) for name in part]
            for name, delivered, refused in sql.add_outcomes(self._connection, rows, now):
                after = MailOutcomes(added[name].domain, delivered, refused)
                batch.take_back(added[name], after)

    def _add(
        self, batch: EvidenceBatch, names: Sequence[str], hashes: Mapping[str, Sequence[int]]
    ) -> Sequence[str]:
        """Add to some domains and judge them; return the keys of the events that changed one."""
        sums = [batch.domains[name] for name in names]
        added = sql.add(self._connection, sums, self._rule.threshold)
        rows = [DomainRow(*row) for row in added.doubtful]
        if estimates := self._estimate([name for name in names if name in hashes], hashes):
            rows = [
                row._replace(recipients=estimates.get(row.domain, row.recipients)) for row in rows
            ]
        # A new row has the status `unknown` too.
        self._sums["unknown"] += added.new
        # A domain with copies alone in this batch is as it was.
        return self.judge(
            (row, batch.events[row.domain]) for row in rows if row.domain in batch.events
        )

    def _estimate(
        self, names: Sequence[str], hashes: Mapping[str, Sequence[int]]
    ) -> Mapping[str, int]:
        """Add recipients to the sketches of domains, whose rows are locked; return estimates."""
        found = self._run(sql.FIND_SKETCHES, (), [(name,) for name in names])
        kept = {domain: bytes(registers) for domain, registers in found}
        merged = {
            name: hyperloglog.merge(kept.get(name, hyperloglog.EMPTY), hashes[name])
            for name in names
        }
        changed = {name: new for name, new in merged.items() if new != kept.get(name)}
        estimates = {name: hyperloglog.estimate(new) for name, new in changed.items()}
        self._run(sql.KEEP_SKETCHES, (), list(changed.items()))
        self._run(sql.SET_RECIPIENTS, (), list(estimates.items()))
        return estimates


def _recipients(
    observations: Iterable[Observation], fresh: AbstractSet[str]
) -> Mapping[str, Sequence[int]]:
    """Return the hashes of the recipients of deliveries, by domain."""
    hashes: dict[str, list[int]] = defaultdict(list)
    for each in observations:
        if each.kind == Kind.DELIVERED and each.recipient and each.key in fresh:
            hashes[each.domain].append(hyperloglog.hashed(each.recipient))
    return hashes


def _made_by(
    group: Sequence[Observation], by_key: Mapping[str, VerdictChange]
) -> Sequence[VerdictChange]:
    """Return the changes that some observations made, the oldest first."""
    if not by_key:  # nearly always
        return []
    keys = {each.key for each in group}
    return [change for key, change in by_key.items() if key in keys]
