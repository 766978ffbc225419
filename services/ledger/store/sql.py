"""The SQL that records mails, in one text for both databases where they allow it.

In a text, `$1` and so on are values and `$rows` is a table of rows: see `dialect.execute`. What a
statement reads comes back as one JSON text: each row that SQLite returns lets other threads run
for a moment, and a thousand such moments are long.
"""

from collections.abc import Sequence
from typing import Any, cast

import orjson
import sqlalchemy as sa

from shared.storage.dialect import Row, chunks, execute

# This waits for a row that another replica is inserting, until that is committed.
KEEP_KEYS = """
    INSERT INTO mail_keys (key, message)
    SELECT column1, column2 FROM $rows(bytea, bigint) WHERE column1 IS NOT NULL
    ON CONFLICT (key) DO NOTHING
    """
NAME_KEYS = """
    UPDATE mail_keys SET message = column2 FROM $rows(bytea, bigint) WHERE key = column1
    """
# The rows are locked in the order of their keys by every transaction.
_LOCKED = """
    SELECT column2, message FROM $rows(bytea, bigint) CROSS JOIN mail_keys WHERE key = column1
    """
_LOCK_KEYS = {
    "sqlite": f"SELECT json_group_array(json_array(column2, message)) FROM ({_LOCKED})",  # noqa: S608 -- of a text above
    "postgresql": f"""
    WITH locked AS ({_LOCKED} ORDER BY key FOR UPDATE OF mail_keys)
    SELECT CAST(COALESCE(json_agg(json_build_array(column2, message)), '[]') AS text) FROM locked
    """,  # noqa: S608 -- of a text above
}
FIND_MESSAGES = """
    SELECT $json_rows(number, client, category, tags)
    FROM $rows(bigint) CROSS JOIN messages WHERE number = column1
    """
FIND_RECIPIENTS = """
    SELECT $json_rows(message, recipient, attempt, outcome, status, at, detail)
    FROM $rows(bigint, text) CROSS JOIN recipients WHERE message = column1 AND recipient = column2
    """
FIND_EARLY = """
    SELECT $json_rows(column2, recipient, attempt, outcome, status, at, detail)
    FROM $rows(bytea, bigint) CROSS JOIN early_outcomes WHERE key = column1
    """
FORGET_EARLY = """
    DELETE FROM early_outcomes WHERE key IN (SELECT column1 FROM $rows(bytea))
    """
KEEP_EARLY = """
    INSERT INTO early_outcomes (
        key, recipient, attempt, outcome, status, at, detail, recorded_at
    )
    SELECT column1, column2, column3, column4, column5, column6, column7, CAST($1 AS bigint)
    FROM $rows(bytea, text, integer, smallint, smallint, bigint, text) WHERE column1 IS NOT NULL
    ON CONFLICT (key, recipient, attempt, outcome) DO UPDATE SET
        status = excluded.status, at = excluded.at, detail = excluded.detail
    WHERE excluded.at < early_outcomes.at
    """
KEEP_MESSAGES = """
    INSERT INTO messages (
        number, email_id, client, category, sender, subject, list_id, tags, metadata, size_bytes,
        expires_at
    )
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9,
           column10, column11
    FROM $rows(bigint, text, text, smallint, text, text, text, text, text, bigint, bigint)
    WHERE column1 IS NOT NULL
    """
KEEP_TAGS = """
    INSERT INTO message_tags (client, tag, message)
    SELECT column1, column2, column3 FROM $rows(text, text, bigint) WHERE column1 IS NOT NULL
    """
KEEP_RECIPIENTS = """
    INSERT INTO recipients (
        message, recipient, client, address_hash, attempt, outcome, status, at, detail
    )
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9
    FROM $rows(bigint, text, text, bigint, integer, smallint, smallint, bigint, text)
    WHERE column1 IS NOT NULL
    ON CONFLICT (message, recipient) DO UPDATE SET
        attempt = excluded.attempt, outcome = excluded.outcome, status = excluded.status,
        at = excluded.at, detail = excluded.detail
    """
KEEP_HISTORY = """
    INSERT INTO history (message, recipient, attempt, outcome, status, at, detail)
    SELECT column1, column2, column3, column4, column5, column6, column7
    FROM $rows(bigint, text, integer, smallint, smallint, bigint, text) WHERE column1 IS NOT NULL
    ON CONFLICT (message, recipient, attempt, outcome) DO UPDATE SET
        status = excluded.status, at = excluded.at, detail = excluded.detail
    WHERE excluded.at < history.at
    """
ADD_TOTALS = """
    INSERT INTO totals (
        client, dimension, value, hour, category, waiting, delivered, bounced_permanent,
        bounced_transient, bounced_undetermined, failed, expired, suppressed, cancelled, uncertain
    )
    SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9,
           column10, column11, column12, column13, column14, column15
    FROM $rows(text, text, text, integer, smallint, bigint, bigint, bigint, bigint, bigint, bigint,
               bigint, bigint, bigint, bigint)
    WHERE column1 IS NOT NULL
    ON CONFLICT (client, dimension, value, hour, category) DO UPDATE SET
        waiting = totals.waiting + excluded.waiting,
        delivered = totals.delivered + excluded.delivered,
        bounced_permanent = totals.bounced_permanent + excluded.bounced_permanent,
        bounced_transient = totals.bounced_transient + excluded.bounced_transient,
        bounced_undetermined = totals.bounced_undetermined + excluded.bounced_undetermined,
        failed = totals.failed + excluded.failed,
        expired = totals.expired + excluded.expired,
        suppressed = totals.suppressed + excluded.suppressed,
        cancelled = totals.cancelled + excluded.cancelled,
        uncertain = totals.uncertain + excluded.uncertain
    """


def lock_keys(connection: sa.Connection, keys: Sequence[bytes]) -> Sequence[int | None]:
    """Lock the rows of keys that are in order; return the number of the mail of each, if known."""
    found: dict[int, int | None] = {}
    text = _LOCK_KEYS[connection.dialect.name]
    for chunk in chunks([(key, place) for place, key in enumerate(keys)]):
        found |= cast("Any", read(execute(connection, text, (), chunk)))
    return [found[place] for place in range(len(keys))]


def find(connection: sa.Connection, text: str, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that a text finds for any number of rows."""
    return [row for chunk in chunks(rows) for row in read(execute(connection, text, (), chunk))]


def write(
    connection: sa.Connection, text: str, rows: Sequence[Row], values: Sequence[object] = ()
) -> None:
    """Execute a text that returns nothing, with any number of rows."""
    for chunk in chunks(rows):
        execute(connection, text, values, chunk)


def read(result: sa.CursorResult[Any]) -> Sequence[Row]:
    """Return the rows in the one JSON text of a result."""
    return cast("Sequence[Row]", orjson.loads(result.scalar_one()))
