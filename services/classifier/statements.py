"""What is said to the database by who counts.

What is written comes back as one JSON text: each row that SQLite gives lets other threads run for a
while, and a thousand such whiles are long.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson
import sqlalchemy as sa

from services.classifier.tally import DOMAIN, events
from shared.storage.dialect import Row, execute

_LAST = "SELECT COALESCE(MAX(number), 0) FROM seen"
# A copy on its way at another replica is waited for here, until it is committed.
_MARK = """
    INSERT INTO seen (key, seen_at)
    SELECT column1, CAST($1 AS bigint) FROM $rows(text) WHERE column1 IS NOT NULL
    ON CONFLICT (key) DO NOTHING
    """
# SQLite numbers in order, and nobody else can write now.
_MARKED_BEFORE = """
    SELECT json_group_array(key) FROM $rows(text) CROSS JOIN seen ON key = column1
    WHERE number <= CAST($1 AS bigint)
    """
_MARK_AND_TELL = f"""
    WITH written AS ({_MARK} RETURNING key)
    SELECT CAST(COALESCE(json_agg(column1), '[]') AS text)
    FROM $rows(text) LEFT JOIN written ON key = column1 WHERE key IS NULL
    """  # noqa: S608 -- of texts above
_ADD = """
    INSERT INTO domains (
        domain, first_event_at, last_event_at, delivered, bounced, refused, undetermined,
        taken_back, status, recipients
    )
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, 0, 0
    FROM $rows(text, bigint, bigint, bigint, bigint, bigint, bigint, bigint)
    WHERE column1 IS NOT NULL
    ON CONFLICT (domain) DO UPDATE SET
        delivered = domains.delivered + excluded.delivered,
        bounced = domains.bounced + excluded.bounced,
        refused = domains.refused + excluded.refused,
        undetermined = domains.undetermined + excluded.undetermined,
        taken_back = domains.taken_back + excluded.taken_back,
        first_event_at = $least(domains.first_event_at, excluded.first_event_at),
        last_event_at = $greatest(domains.last_event_at, excluded.last_event_at)
    """
# Few of many: those that some rule might judge otherwise now, whose threshold is $1.
_DOUBTFUL = """
    (status = 0 AND (bounced > 0 OR delivered > CAST($1 AS bigint)))
    OR (status = 1 AND (bounced > 0 OR undetermined > 0 OR delivered <= CAST($1 AS bigint)))
"""
_COLUMNS = "domain, status, delivered, bounced, refused, undetermined, taken_back, recipients"
# One that has no more events than were just added is new.
_ADDED = f"""
    SELECT COALESCE(SUM(delivered + bounced + refused + taken_back = column2), 0),
           json_group_array(json_array({_COLUMNS})) FILTER (WHERE {_DOUBTFUL})
    FROM $rows(text, bigint) CROSS JOIN domains ON domain = column1
    """  # noqa: S608 -- of texts above
_ADD_AND_TELL = f"""
    WITH written AS ({_ADD} RETURNING {_COLUMNS})
    SELECT COUNT(*) FILTER (WHERE delivered + bounced + refused + taken_back
                                  = column4 + column5 + column6 + column8),
           CAST(COALESCE(json_agg(json_build_array({_COLUMNS})) FILTER (WHERE {_DOUBTFUL}), '[]')
                AS text)
    FROM written JOIN $rows(text, bigint, bigint, bigint, bigint, bigint, bigint, bigint)
    ON domain = column1
    """  # noqa: S608 -- of texts above
_LINK = """
    INSERT INTO mails (mail, delivered, refused, seen_at)
    SELECT column1, column2, column3, CAST($1 AS bigint) FROM $rows(text, bigint, bigint)
    WHERE column1 IS NOT NULL
    ON CONFLICT (mail) DO UPDATE SET
        delivered = mails.delivered + excluded.delivered,
        refused = mails.refused + excluded.refused
    """
_LINKED = """
    SELECT json_group_array(json_array(mail, delivered, refused))
    FROM $rows(text) CROSS JOIN mails ON mail = column1 WHERE refused > 0
    """
_LINK_AND_TELL = f"""
    WITH written AS ({_LINK} RETURNING mail, delivered, refused)
    SELECT CAST(COALESCE(json_agg(json_build_array(mail, delivered, refused)), '[]') AS text)
    FROM written WHERE refused > 0
    """  # noqa: S608 -- of texts above
_REFUSE = """
    INSERT INTO refusals (domain, reply_class, refused)
    SELECT column1, column2, column3 FROM $rows(text, text, bigint) WHERE column1 IS NOT NULL
    ON CONFLICT (domain, reply_class) DO UPDATE SET refused = refusals.refused + excluded.refused
    """
_JUDGE = """
    UPDATE domains SET status = CAST($1 AS smallint)
    WHERE domain IN (SELECT column1 FROM $rows(text))
    """
_SKETCHES = """
    SELECT domain, registers FROM sketches WHERE domain IN (SELECT column1 FROM $rows(text))
    """
_SKETCH = """
    INSERT INTO sketches (domain, registers)
    SELECT column1, column2 FROM $rows(text, bytea) WHERE column1 IS NOT NULL
    ON CONFLICT (domain) DO UPDATE SET registers = excluded.registers
    """
_ESTIMATE = """
    UPDATE domains SET recipients = column2 FROM $rows(text, bigint) WHERE domain = column1
    """
# 16 rows of sums, about as many as connections that write at once.
_SUM = """
    INSERT INTO totals (shard, unknown, catch_all, not_catch_all, delivered, bounced)
    VALUES ($connection % 16, CAST($1 AS bigint), CAST($2 AS bigint),
            CAST($3 AS bigint), CAST($4 AS bigint), CAST($5 AS bigint))
    ON CONFLICT (shard) DO UPDATE SET
        unknown = totals.unknown + excluded.unknown,
        catch_all = totals.catch_all + excluded.catch_all,
        not_catch_all = totals.not_catch_all + excluded.not_catch_all,
        delivered = totals.delivered + excluded.delivered,
        bounced = totals.bounced + excluded.bounced
    """
_NOTE = """
    INSERT INTO changes (key, domain, status, changed_at)
    SELECT column1, column2, CAST($1 AS smallint), CAST($2 AS bigint)
    FROM $rows(text, text) WHERE column1 IS NOT NULL
    ON CONFLICT (key) DO UPDATE SET
        domain = excluded.domain, status = excluded.status, changed_at = excluded.changed_at
    """
_NOTED = """
    SELECT domain, status, changed_at, key FROM changes
    WHERE key IN (SELECT column1 FROM $rows(text)) ORDER BY changed_at, key
    """


class Added(NamedTuple):
    """What was found out while sums were added to domains."""

    new: int  # how many domains were not known
    doubtful: Sequence[Row]  # the domains whose status may have to change, as they are now


class Statements:
    """The statements for one kind of database. No list of rows may be longer than MAX_ROWS."""

    def __init__(self, database: str) -> None:
        self._lite = database == "sqlite"

    def mark(self, connection: sa.Connection, keys: Sequence[str], now: int) -> Sequence[str]:
        """Remember keys, each given once; give those that were known."""
        rows = [(key,) for key in keys]
        if not self._lite:
            return _read(execute(connection, _MARK_AND_TELL, (now,), rows))
        last = connection.exec_driver_sql(_LAST).scalar_one()
        if execute(connection, _MARK, (now,), rows).rowcount == len(keys):
            return ()
        return _read(execute(connection, _MARKED_BEFORE, (last,), rows))

    def add(self, connection: sa.Connection, rows: Sequence[Row], threshold: int) -> Added:
        """Add sums to domains, which are to be judged by a rule of this threshold.

        A row is one of a `Tally`.
        """
        if self._lite:
            execute(connection, _ADD, (), rows)
            sums = [(row[DOMAIN], events(row)) for row in rows]
            result = execute(connection, _ADDED, (threshold,), sums)
        else:
            result = execute(connection, _ADD_AND_TELL, (threshold,), rows)
        found: Sequence[Any] = result.one()
        return Added(found[0], orjson.loads(found[1]))

    def link(self, connection: sa.Connection, rows: Sequence[Row], now: int) -> Sequence[Row]:
        """Add to what is known of mails; give those that were refused, as they are now."""
        if not self._lite:
            return _read(execute(connection, _LINK_AND_TELL, (now,), rows))
        execute(connection, _LINK, (now,), rows)
        return _read(execute(connection, _LINKED, (), [row[:1] for row in rows]))

    def refuse(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Count refusals."""
        execute(connection, _REFUSE, (), rows)

    def judge(self, connection: sa.Connection, status: int, domains: Sequence[str]) -> None:
        """Set the status of domains."""
        execute(connection, _JUDGE, (status,), [(domain,) for domain in domains])

    def sketches(self, connection: sa.Connection, domains: Sequence[str]) -> Mapping[str, bytes]:
        """Give the sketches of some domains; the rows of these domains must be locked."""
        found = execute(connection, _SKETCHES, (), [(domain,) for domain in domains])
        return {row.domain: bytes(row.registers) for row in found}

    def sketch(
        self, connection: sa.Connection, kept: Mapping[str, bytes], estimates: Mapping[str, int]
    ) -> None:
        """Keep sketches and what they estimate."""
        execute(connection, _SKETCH, (), list(kept.items()))
        execute(connection, _ESTIMATE, (), list(estimates.items()))

    def sum(self, connection: sa.Connection, sums: Sequence[int]) -> None:
        """Add to the sums over all domains, in the order of their columns."""
        execute(connection, _SUM, sums)

    def note(self, connection: sa.Connection, rows: Sequence[Row], status: int, now: int) -> None:
        """Remember which event gave which domain this status."""
        execute(connection, _NOTE, (status, now), rows)

    def noted(self, connection: sa.Connection, keys: Sequence[str]) -> Sequence[Row]:
        """Give the changes that some events made: domain, status, time, key; the oldest first."""
        return execute(connection, _NOTED, (), [(key,) for key in keys]).all()


def _read(result: sa.CursorResult[Any]) -> Sequence[Any]:
    return cast("Sequence[Any]", orjson.loads(result.scalar_one()))
