"""What is said to the database: one text for both, for as many rows as there are.

Rows travel as one JSON text: a statement costs much, a row in it little. What is written comes
back as one JSON text too. Each row that SQLite gives lets other threads run for a while, and a
thousand such whiles are long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
import sqlalchemy as sa

ROWS = 2000  # a statement: its JSON is read and written while nothing else can run in the process
SHARDS = 16  # rows of `totals`, about as many as connections that write at once

_WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "rows": "json_each(:rows)",
        "text": "value",
        "least": "min",
        "greatest": "max",
        "shard": "0",
    },
    "postgresql": {
        "rows": "json_array_elements(CAST(:rows AS json))",
        "text": "(value #>> '{}')",
        "least": "least",
        "greatest": "greatest",
        "shard": f"pg_backend_pid() % {SHARDS}",
    },
}

_LAST = "SELECT COALESCE(MAX(number), 0) FROM seen"
# A copy on its way at another replica is waited for here, until it is committed.
_MARK = """
INSERT INTO seen (key, seen_at)
SELECT $text, CAST(:now AS bigint) FROM $rows WHERE true
ON CONFLICT (key) DO NOTHING
"""
_ADD = """
INSERT INTO domains (
    domain, first_event_at, last_event_at, delivered, bounced, refused, undetermined, taken_back,
    status, recipients
)
SELECT value ->> 0, CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint),
       CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS bigint), CAST(value ->> 5 AS bigint),
       CAST(value ->> 6 AS bigint), CAST(value ->> 7 AS bigint), 0, 0
FROM $rows WHERE true
ON CONFLICT (domain) DO UPDATE SET
    delivered = domains.delivered + excluded.delivered,
    bounced = domains.bounced + excluded.bounced,
    refused = domains.refused + excluded.refused,
    undetermined = domains.undetermined + excluded.undetermined,
    taken_back = domains.taken_back + excluded.taken_back,
    first_event_at = $least(domains.first_event_at, excluded.first_event_at),
    last_event_at = $greatest(domains.last_event_at, excluded.last_event_at)
"""
_LINK = """
INSERT INTO mails (mail, delivered, refused, seen_at)
SELECT value ->> 0, CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint), CAST(:now AS bigint)
FROM $rows WHERE true
ON CONFLICT (mail) DO UPDATE SET
    delivered = mails.delivered + excluded.delivered,
    refused = mails.refused + excluded.refused
"""
_REFUSE = """
INSERT INTO refusals (domain, reply_class, refused)
SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint) FROM $rows WHERE true
ON CONFLICT (domain, reply_class) DO UPDATE SET refused = refusals.refused + excluded.refused
"""
_JUDGE = """
UPDATE domains SET status = CAST(:status AS smallint)
WHERE domain IN (SELECT $text FROM $rows)
"""
_ESTIMATE = "UPDATE domains SET recipients = CAST(:recipients AS bigint) WHERE domain = :domain"
_SKETCH = """
INSERT INTO sketches (domain, registers) VALUES (:domain, :registers)
ON CONFLICT (domain) DO UPDATE SET registers = excluded.registers
"""
_SKETCHES = "SELECT domain, registers FROM sketches WHERE domain IN (SELECT $text FROM $rows)"
_SUM = """
INSERT INTO totals (shard, unknown, catch_all, not_catch_all, delivered, bounced)
VALUES ($shard, CAST(:unknown AS bigint), CAST(:catch_all AS bigint),
        CAST(:not_catch_all AS bigint), CAST(:delivered AS bigint), CAST(:bounced AS bigint))
ON CONFLICT (shard) DO UPDATE SET
    unknown = totals.unknown + excluded.unknown,
    catch_all = totals.catch_all + excluded.catch_all,
    not_catch_all = totals.not_catch_all + excluded.not_catch_all,
    delivered = totals.delivered + excluded.delivered,
    bounced = totals.bounced + excluded.bounced
"""
_NOTE = """
INSERT INTO changes (key, domain, status, changed_at)
SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS smallint), CAST(:now AS bigint)
FROM $rows WHERE true
ON CONFLICT (key) DO UPDATE SET
    domain = excluded.domain, status = excluded.status, changed_at = excluded.changed_at
"""
_NOTED = """
SELECT domain, status, changed_at, key FROM changes
WHERE key IN (SELECT $text FROM $rows) ORDER BY changed_at, key
"""

Json = Sequence[Any]


@dataclass(frozen=True, slots=True)
class _Upsert:
    """What writes rows, and how the same rows are read back, as a JSON array for each.

    `back` is given the first columns alone: SQLite reads a row's text anew for each column of it.
    """

    text: str
    columns: str
    back: str

    def returning(self) -> str:
        """Give PostgreSQL's way to do both at once."""
        return _RETURNING.replace("$upsert", self.text).replace("$columns", self.columns)


_RETURNING = """
WITH written AS ($upsert RETURNING $columns AS it)
SELECT CAST(COALESCE(json_agg(it), '[]') AS text) FROM written
"""
_MARKED = _Upsert(_MARK, "key", "SELECT json_group_array(key) FROM seen WHERE number > :last")
_ADDED = _Upsert(
    _ADD,
    "json_build_array(domain, status, delivered, bounced, refused, undetermined, taken_back,"
    " recipients)",
    """
    SELECT json_group_array(json_array(domain, status, delivered, bounced, refused, undetermined,
                                       taken_back, recipients))
    FROM json_each(:rows) CROSS JOIN domains ON domain = value
    """,
)
_LINKED = _Upsert(
    _LINK,
    "json_build_array(mail, delivered, refused)",
    """
    SELECT json_group_array(json_array(mail, delivered, refused))
    FROM json_each(:rows) CROSS JOIN mails ON mail = value
    """,
)


class Statements:
    """The statements for one kind of database."""

    def __init__(self, dialect: str) -> None:
        self._lite = dialect == "sqlite"
        self._words = _WORDS[dialect]
        self._texts: dict[str, sa.TextClause] = {}

    def mark(self, connection: sa.Connection, keys: Sequence[str], now: int) -> set[str]:
        """Remember keys; give those that were new."""
        if not self._lite:
            return set(_read(self.run(connection, _MARKED.returning(), keys, now=now)))
        last = connection.execute(self._text(_LAST)).scalar_one()
        if self.run(connection, _MARK, keys, now=now).rowcount == len(keys):
            return set(keys)
        # SQLite numbers in order, and nobody else can write now.
        return set(_read(connection.execute(self._text(_MARKED.back), {"last": last})))

    def add(self, connection: sa.Connection, rows: Json) -> Json:
        """Add sums to domains; give these as they are now."""
        return self._upsert(connection, _ADDED, rows)

    def link(self, connection: sa.Connection, rows: Json, now: int) -> Json:
        """Add to what is known of mails; give them as they are now."""
        return self._upsert(connection, _LINKED, rows, now=now)

    def refuse(self, connection: sa.Connection, rows: Json) -> None:
        """Count refusals."""
        self.run(connection, _REFUSE, rows)

    def judge(self, connection: sa.Connection, status: int, domains: Sequence[str]) -> None:
        """Set the status of domains."""
        self.run(connection, _JUDGE, domains, status=status)

    def sketches(self, connection: sa.Connection, domains: Sequence[str]) -> Mapping[str, bytes]:
        """Give the sketches of some domains; the rows of these domains must be locked."""
        found = self.run(connection, _SKETCHES, domains)
        return {row.domain: bytes(row.registers) for row in found}

    def sketch(self, connection: sa.Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Keep sketches and what they estimate."""
        connection.execute(self._text(_SKETCH), rows)
        connection.execute(self._text(_ESTIMATE), rows)

    def sum(self, connection: sa.Connection, sums: Mapping[str, int]) -> None:
        """Add to the sums over all domains."""
        connection.execute(self._text(_SUM), sums)

    def note(self, connection: sa.Connection, rows: Json, now: int) -> None:
        """Remember which events changed a verdict."""
        self.run(connection, _NOTE, rows, now=now)

    def noted(self, connection: sa.Connection, keys: Sequence[str]) -> Json:
        """Give the changes that some events made: domain, status, time, key; the oldest first."""
        return self.run(connection, _NOTED, keys).all()

    def run(
        self, connection: sa.Connection, text: str, rows: Json, **values: object
    ) -> sa.CursorResult[Any]:
        """Say a text for some rows."""
        return connection.execute(self._text(text), {"rows": orjson.dumps(rows).decode(), **values})

    def _upsert(
        self, connection: sa.Connection, upsert: _Upsert, rows: Json, **values: object
    ) -> Json:
        if not self._lite:
            return _read(self.run(connection, upsert.returning(), rows, **values))
        self.run(connection, upsert.text, rows, **values)
        return _read(self.run(connection, upsert.back, [row[0] for row in rows]))

    def _text(self, text: str) -> sa.TextClause:
        if text not in self._texts:
            said = text
            for word, meaning in self._words.items():
                said = said.replace(f"${word}", meaning)
            self._texts[text] = sa.text(said)
        return self._texts[text]


def _read(result: sa.CursorResult[Any]) -> Json:
    return cast("Json", orjson.loads(result.scalar_one()))
