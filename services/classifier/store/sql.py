"""The tables of the classifier, as `migrations` makes them, and the SQL that counts events.

All times are milliseconds since 1970: in `domains` those of the events, elsewhere by the database's
clock.

In a text, `$1` and so on are values and `$rows` is a table of rows: see `dialect.execute`. What a
statement writes comes back as one JSON text: each row that SQLite returns lets other threads run
for a moment, and a thousand such moments are long.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import orjson
import sqlalchemy as sa

from services.classifier.evidence import BOUNCED, DELIVERED, DOMAIN, REFUSED, TAKEN_BACK
from shared.contracts import Verdict
from shared.storage.dialect import Row, execute, insert_text

metadata = sa.MetaData()

# The verdicts by their number in `domains.status`, which is short since an index holds it.
STATUSES = (Verdict.UNKNOWN, Verdict.CATCH_ALL, Verdict.NOT_CATCH_ALL)

domains = sa.Table(
    "domains",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("bounced", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),  # all in `refusals`
    sa.Column("undetermined", sa.BigInteger, nullable=False),  # of them
    sa.Column("taken_back", sa.BigInteger, nullable=False),
    sa.Column("recipients", sa.BigInteger, nullable=False),
    sa.Column("first_event_at", sa.BigInteger, nullable=False),
    sa.Column("last_event_at", sa.BigInteger, nullable=False),
    sa.Index("ix_domains_status", "status", "domain"),
    sqlite_with_rowid=False,  # one tree to write to instead of two
    postgresql_with={"fillfactor": 70},  # a changed row stays on its page, out of all indexes
)

# Refusals that prove nothing, by reply class.
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("reply_class", sa.Text, primary_key=True),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# The events that were counted: a copy of one counts nothing. They are deleted in the order of
# `number`, which is about that of `processed_at`.
processed_events = sa.Table(
    "processed_events",
    metadata,
    # SQLite numbers rows by itself for this very type alone.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("processed_at", sa.BigInteger, nullable=False),
)

# The few events that changed a verdict: a copy of one announces the change again, since the process
# may have been killed before it published the announcement.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("domain", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False, index=True),
)

# Sums over all domains. Each connection mostly adds to a row of its own: on one row all of them
# would wait for each other.
totals = sa.Table(
    "totals",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("unknown", sa.BigInteger, nullable=False),
    sa.Column("catch_all", sa.BigInteger, nullable=False),
    sa.Column("not_catch_all", sa.BigInteger, nullable=False),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("bounced", sa.BigInteger, nullable=False),
)

# The outcomes of one mail to one recipient, in the mode `evidence` alone.
mails = sa.Table(
    "mails",
    metadata,
    sa.Column("mail", sa.Text, primary_key=True),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),
)

# The distinct recipients of a domain's deliveries, estimated; in the mode `evidence` alone.
sketches = sa.Table(
    "sketches",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("registers", sa.LargeBinary, nullable=False),
)

# The rule that all verdicts in `domains` follow, and how far the change to another has come.
rules = sa.Table(
    "rules",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),  # counts the changes of rule
    sa.Column("done_to", sa.Text),  # the last domain; NULL when all are judged
)


_LAST_NUMBER = "SELECT COALESCE(MAX(number), 0) FROM processed_events"
# This waits for a copy that another replica is counting, until that is committed.
_MARK = """
    INSERT INTO processed_events (key, processed_at)
    SELECT column1, CAST($1 AS bigint) FROM $rows(text) WHERE column1 IS NOT NULL
    ON CONFLICT (key) DO NOTHING
    """
# SQLite numbers rows in order, and has no other writer now.
_MARKED_EARLIER = """
    SELECT json_group_array(key) FROM $rows(text) CROSS JOIN processed_events ON key = column1
    WHERE number <= CAST($1 AS bigint)
    """
_MARK_RETURNING = f"""
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
# The few domains whose status a rule with the threshold $1 may change now.
_DOUBTFUL = """
    (status = 0 AND (bounced > 0 OR delivered > CAST($1 AS bigint)))
    OR (status = 1 AND (bounced > 0 OR undetermined > 0 OR delivered <= CAST($1 AS bigint)))
"""
_COLUMNS = "domain, status, delivered, bounced, refused, undetermined, taken_back, recipients"
# A domain with no more events than were just added is new.
_ADDED = f"""
    SELECT COALESCE(SUM(delivered + bounced + refused + taken_back = column2), 0),
           json_group_array(json_array({_COLUMNS})) FILTER (WHERE {_DOUBTFUL})
    FROM $rows(text, bigint) CROSS JOIN domains ON domain = column1
    """  # noqa: S608 -- of texts above
_ADD_RETURNING = f"""
    WITH written AS ({_ADD} RETURNING {_COLUMNS})
    SELECT COUNT(*) FILTER (WHERE delivered + bounced + refused + taken_back
                                  = column4 + column5 + column6 + column8),
           CAST(COALESCE(json_agg(json_build_array({_COLUMNS})) FILTER (WHERE {_DOUBTFUL}), '[]')
                AS text)
    FROM written JOIN $rows(text, bigint, bigint, bigint, bigint, bigint, bigint, bigint)
    ON domain = column1
    """  # noqa: S608 -- of texts above
_ADD_OUTCOMES = insert_text(
    mails,
    ("mail", "delivered", "refused"),
    {"seen_at": "CAST($1 AS bigint)"},
    add=("delivered", "refused"),
)
_REFUSED_MAILS = """
    SELECT json_group_array(json_array(mail, delivered, refused))
    FROM $rows(text) CROSS JOIN mails ON mail = column1 WHERE refused > 0
    """
_ADD_OUTCOMES_RETURNING = f"""
    WITH written AS ({_ADD_OUTCOMES} RETURNING mail, delivered, refused)
    SELECT CAST(COALESCE(json_agg(json_build_array(mail, delivered, refused)), '[]') AS text)
    FROM written WHERE refused > 0
    """  # noqa: S608 -- of texts above
COUNT_REFUSALS = insert_text(refusals, ("domain", "reply_class", "refused"), add=("refused",))
SET_STATUS = """
    UPDATE domains SET status = CAST($1 AS smallint)
    WHERE domain IN (SELECT column1 FROM $rows(text))
    """
FIND_SKETCHES = """
    SELECT domain, registers FROM sketches WHERE domain IN (SELECT column1 FROM $rows(text))
    """
KEEP_SKETCHES = insert_text(sketches, ("domain", "registers"), replace=("registers",))
SET_RECIPIENTS = """
    UPDATE domains SET recipients = column2 FROM $rows(text, bigint) WHERE domain = column1
    """
# 16 rows of sums, about as many as connections that write at once.
ADD_TOTALS = """
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
KEEP_CHANGES = insert_text(
    changes,
    ("key", "domain"),
    {"status": "CAST($1 AS smallint)", "changed_at": "CAST($2 AS bigint)"},
    replace=("domain", "status", "changed_at"),
)
FIND_CHANGES = """
    SELECT domain, status, changed_at, key FROM changes
    WHERE key IN (SELECT column1 FROM $rows(text)) ORDER BY changed_at, key
    """


class Added(NamedTuple):
    """The result of adding sums to domains."""

    new: int  # domains that were not known before
    doubtful: Sequence[Row]  # the domains whose status may have to change, as they are now


def mark(connection: sa.Connection, keys: Sequence[str], now: int) -> Sequence[str]:
    """Keep the keys of events, each given once; return those that were known."""
    rows = [(key,) for key in keys]
    if not _is_sqlite(connection):
        return _read(execute(connection, _MARK_RETURNING, (now,), rows))
    last = connection.exec_driver_sql(_LAST_NUMBER).scalar_one()
    if execute(connection, _MARK, (now,), rows).rowcount == len(keys):
        return ()
    return _read(execute(connection, _MARKED_EARLIER, (last,), rows))


def add(connection: sa.Connection, sums: Sequence[Row], threshold: int) -> Added:
    """Add sums to domains, which are to be judged by a rule with this threshold.

    `sums` are those of an `EvidenceBatch`.
    """
    if _is_sqlite(connection):
        execute(connection, _ADD, (), sums)
        events = [(row[DOMAIN], _event_count(row)) for row in sums]
        result = execute(connection, _ADDED, (threshold,), events)
    else:
        result = execute(connection, _ADD_RETURNING, (threshold,), sums)
    found: Sequence[Any] = result.one()
    return Added(found[0], orjson.loads(found[1]))


def add_outcomes(connection: sa.Connection, rows: Sequence[Row], now: int) -> Sequence[Row]:
    """Add to the outcomes of mails; return those of refused mails, as they are now."""
    if not _is_sqlite(connection):
        return _read(execute(connection, _ADD_OUTCOMES_RETURNING, (now,), rows))
    execute(connection, _ADD_OUTCOMES, (now,), rows)
    return _read(execute(connection, _REFUSED_MAILS, (), [row[:1] for row in rows]))


def _is_sqlite(connection: sa.Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _event_count(sums: Row) -> int:
    return int(sums[DELIVERED] + sums[BOUNCED] + sums[REFUSED] + sums[TAKEN_BACK])


def _read(result: sa.CursorResult[Any]) -> Sequence[Any]:
    return cast("Sequence[Any]", orjson.loads(result.scalar_one()))
