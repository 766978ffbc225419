"""One transaction that counts events and judges domains."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from services.classifier import mails, sketch
from services.classifier.change import Change
from services.classifier.evidence import Observation
from services.classifier.rule import Evidence, Mode, Rule
from services.classifier.statements import Statements
from services.classifier.tables import STATUSES
from services.classifier.tally import Tally
from shared.contracts import Kind
from shared.storage.dialect import MILLISECONDS, Clock, chunks

_SUMS = ("unknown", "catch_all", "not_catch_all")  # in the order of STATUSES


class Row(NamedTuple):
    """A domain as it is kept."""

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
        """What the rule looks at."""
        return Evidence(self.delivered, self.bounced, self.undetermined, self.recipients)


class Counting:
    """Counts in the transaction of one connection, under one rule.

    Tables, and the rows in each, are written in one order, whoever writes: replicas wait for each
    other and never in a circle. The sums over all domains are the last, as they are wanted most.
    """

    def __init__(
        self, connection: sa.Connection, say: Statements, rule: Rule, clock: Clock
    ) -> None:
        self._connection = connection
        self._say = say
        self._rule = rule
        self._clock = sa.select(clock(connection))
        self._sums: Counter[str] = Counter()

    def count(self, tally: Tally) -> Sequence[Change]:
        """Count what was not counted before; give the changes that all of it has ever made."""
        copies = self._mark(tally.keys)
        if copies:
            # All but those, which is not what was added up.
            tally = Tally.of(tally.observations, frozenset(copies))
        hashes: Mapping[str, Sequence[int]] = {}
        if self._rule.mode is Mode.EVIDENCE:
            fresh = frozenset(tally.keys)
            self._take_back(tally, fresh)
            hashes = _recipients(tally.observations, fresh)
        for part in chunks(sorted(tally.refusals.items())):
            rows = [(*refusal, count) for refusal, count in part]
            self._say.refuse(self._connection, rows)
        self._sums.update(delivered=tally.delivered, bounced=tally.bounced)
        judged = [self._add(tally, part, hashes) for part in chunks(tally.names)]
        return self.end([*copies, *(key for keys in judged for key in keys)])

    def judge(self, rows: Iterable[tuple[Row, str]]) -> Sequence[str]:
        """Bring domains up to the rule, whose rows are locked; give the keys of those changed.

        Each comes with the key by which its change is remembered.
        """
        changed: dict[int, list[tuple[Row, str]]] = defaultdict(list)
        for row, key in rows:
            status = STATUSES.index(self._rule.verdict(row.evidence))
            if status != row.status:
                changed[status].append((row, key))
                self._sums[_SUMS[row.status]] -= 1
                self._sums[_SUMS[status]] += 1
        for status, those in changed.items():
            self._say.judge(self._connection, status, [row.domain for row, _ in those])
            # While the rows are locked, so that times are in the order of changes.
            notes = [(key, row.domain) for row, key in those]
            self._say.note(self._connection, notes, status, self._now())
        return [key for those in changed.values() for _, key in those]

    def end(self, keys: Sequence[str]) -> Sequence[Change]:
        """Write what is written last; give the changes that events of these keys have made."""
        if any(self._sums.values()):
            sums = [self._sums[name] for name in (*_SUMS, "delivered", "bounced")]
            self._say.sum(self._connection, sums)
        return [
            Change(domain, STATUSES[status], datetime.fromtimestamp(at / MILLISECONDS, UTC), key)
            for part in chunks(keys)
            for domain, status, at, key in self._say.noted(self._connection, part)
        ]

    def _now(self) -> int:
        return int(self._connection.execute(self._clock).scalar_one())

    def _mark(self, keys: Sequence[str]) -> Sequence[str]:
        """Remember keys; give those that were known."""
        now = self._now()
        known = [self._say.mark(self._connection, part, now) for part in chunks(keys)]
        return [key for keys in known for key in keys]

    def _take_back(self, tally: Tally, fresh: AbstractSet[str]) -> None:
        now = self._now()
        told = mails.told(tally.observations, fresh)
        for part in chunks(sorted(told)):
            rows = [(name, told[name].delivered, told[name].refused) for name in part]
            for name, *known in self._say.link(self._connection, rows, now):
                mails.take_back(tally, told[name], mails.Known(*known))

    def _add(
        self, tally: Tally, names: Sequence[str], hashes: Mapping[str, Sequence[int]]
    ) -> Sequence[str]:
        """Add to some domains and judge them; give the keys of the events that changed one."""
        sums = [tally.domains[name] for name in names]
        added = self._say.add(self._connection, sums, self._rule.threshold)
        rows = [Row(*row) for row in added.doubtful]
        if estimates := self._estimated([name for name in names if name in hashes], hashes):
            rows = [
                row._replace(recipients=estimates.get(row.domain, row.recipients)) for row in rows
            ]
        # `status` is that of a row just made too.
        self._sums["unknown"] += added.new
        # A domain of which only copies came is as it was.
        return self.judge(
            (row, tally.events[row.domain]) for row in rows if row.domain in tally.events
        )

    def _estimated(
        self, names: Sequence[str], hashes: Mapping[str, Sequence[int]]
    ) -> Mapping[str, int]:
        """Add recipients to the sketches of domains, whose rows are locked; give the estimates."""
        if not names:
            return {}
        kept = self._say.sketches(self._connection, names)
        merged = {name: sketch.merge(kept.get(name, sketch.EMPTY), hashes[name]) for name in names}
        changed = {name: new for name, new in merged.items() if new != kept.get(name)}
        estimates = {name: sketch.estimate(new) for name, new in changed.items()}
        if changed:
            self._say.sketch(self._connection, changed, estimates)
        return estimates


def _recipients(
    observations: Iterable[Observation], fresh: AbstractSet[str]
) -> Mapping[str, Sequence[int]]:
    """Give the hashes of those delivered to, by domain."""
    hashes: dict[str, list[int]] = defaultdict(list)
    for each in observations:
        if each.said == Kind.DELIVERED and each.recipient and each.key in fresh:
            hashes[each.domain].append(sketch.hashed(each.recipient))
    return hashes
