"""The tables of the ledger, as `migrations` makes them, and the SQL that records mails.

All times are milliseconds since 1970: those of outcomes as they were reported, `recorded_at` by the
database's clock. A mail's number begins with its time of acceptance, see `services.ledger.mails`:
rows of one time are neighbours in every tree, a page of a list is a range, and the oldest rows are
the first. A mail without a client has the client ''. Statuses and classes are numbers: STATUSES and
CATEGORIES have their names.

In a text, `$1` and so on are values and `$rows` is a table of rows: see `dialect.execute`. What a
statement reads comes back as one JSON text: each row that SQLite returns lets other threads run
for a moment, and a thousand such moments are long.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import orjson
import sqlalchemy as sa

from services.ledger.changes import COUNTS
from services.ledger.mails import labels
from shared.storage.dialect import Row, chunks, execute, insert_text

metadata = sa.MetaData()

# Each mail that a command or an outcome named. Its row is locked by the transaction that records.
mail_keys = sa.Table(
    "mail_keys",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("message", sa.BigInteger),  # NULL until the command has come
    sa.Column("scheduled_at", sa.BigInteger),  # of a mail for later, which few mails are
    sa.Column("schedule_set_at", sa.BigInteger),  # by an event; 0 by the command
    sqlite_with_rowid=False,  # one tree to write to instead of two
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column(
        "number",
        # SQLite orders the table itself by this very type alone.
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("email_id", sa.Text, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("category", sa.SmallInteger, nullable=False),
    sa.Column("sender", sa.Text),
    sa.Column("subject", sa.Text),  # NULL for a mail with a code
    sa.Column("list_id", sa.Text),
    sa.Column("tags", sa.Text),  # JSON, a text for each name; NULL without any
    sa.Column("metadata", sa.Text),  # the same
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    # Lists of one class are a range, lists of all classes three.
    sa.Index("ix_messages_client", "client", "category", "number"),
)

# The tags of mails as `name`, and as `name:value`.
message_tags = sa.Table(
    "message_tags",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("message", sa.BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)

# The mails whose Message-ID their client has chosen: those of the submission door. All others are
# found by their id, which is in the Message-ID.
message_ids = sa.Table(
    "message_ids",
    metadata,
    sa.Column("message", sa.BigInteger, primary_key=True),
    sa.Column("address_hash", sa.BigInteger, primary_key=True),
    sa.Column("id_hash", sa.BigInteger, nullable=False),
    sa.Index("ix_message_ids_hash", "id_hash", "address_hash", "message"),
    sqlite_with_rowid=False,
)

# Each recipient of each mail, with the outcome that counts: see `services.ledger.mails.rank`.
recipients = sa.Table(
    "recipients",
    metadata,
    sa.Column("message", sa.BigInteger, primary_key=True),
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("address_hash", sa.BigInteger, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("outcome", sa.SmallInteger, nullable=False),  # `uncertain` is tried again or not
    sa.Column("attempt", sa.Integer, nullable=False),  # 0 while it waits
    sa.Column("at", sa.BigInteger, nullable=False),  # 0 while it waits
    sa.Column("detail", sa.Text, nullable=False),  # JSON: reply, reply_class, message_id and so on
    sa.Index("ix_recipients_address", "address_hash", "message"),
    # Nearly all mails are delivered: a list of these needs no index, and they no place in it.
    sa.Index(
        "ix_recipients_status",
        "client",
        "status",
        "message",
        sqlite_where=sa.text("status <> 2"),
        postgresql_where=sa.text("status <> 2"),
    ),
    sqlite_with_rowid=False,
)

# The outcomes that do not count any more, so that most mails have none. One that equals that of
# `recipients` in attempt and outcome is an older copy of it.
history = sa.Table(
    "history",
    metadata,
    sa.Column("message", sa.BigInteger, primary_key=True),
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.SmallInteger, primary_key=True),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

# Outcomes whose command has not come yet.
early_outcomes = sa.Table(
    "early_outcomes",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.SmallInteger, primary_key=True),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Recipients by their status now, in the hour (since 1970, UTC) in which their mail was accepted:
# over all (dimension ''), by domain of the recipient, by tag as `name` and as `name:value`; and of
# those that had ended, the ones that were forgotten (dimension 'forgotten').
totals = sa.Table(
    "totals",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("dimension", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True),
    sa.Column("category", sa.SmallInteger, primary_key=True),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
    sa.Index("ix_totals_hour", "hour"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},  # a changed row stays on its page, out of all indexes
)

# The suppression list: see `services.ledger.suppressions.StoredSuppression`, which has the same
# columns. A removed entry stays for a while, so that nothing older brings it back.
suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("address_key", sa.Text, primary_key=True),
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, primary_key=True),  # empty: of all
    sa.Column("list_id", sa.Text, primary_key=True),  # empty: of all
    sa.Column("email", sa.Text),  # NULL once the person was forgotten, or the entry removed
    sa.Column("categories", sa.Integer, nullable=False),  # the sum of their bits
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("email_id", sa.Text),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Column("announced", sa.Boolean, nullable=False),  # the event of `version` is confirmed
    sa.Column("purge_at", sa.BigInteger),  # NULL while it may still count
    sa.Column("listed_for", sa.Text, nullable=False),  # the client with it in its list, or empty
)
_UNANNOUNCED = sa.not_(suppressions.c.announced)
_ENDING = suppressions.c.purge_at.is_not(None)
_PRESENT = sa.not_(suppressions.c.removed)
for _name, _columns, _condition in (
    ("unannounced", (suppressions.c.version,), _UNANNOUNCED),
    ("purge_at", (suppressions.c.purge_at,), _ENDING),
    ("at", (suppressions.c.at,), _PRESENT),
    ("listed_for", (suppressions.c.listed_for, suppressions.c.at), _PRESENT),
):
    sa.Index(
        f"ix_suppressions_{_name}",
        *_columns,
        sqlite_where=_condition,
        postgresql_where=_condition,
    )

# The addresses that were forgotten, as keyed hashes: what comes late about them is not recorded.
forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("address_key", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)

# The keys in `mail_keys` of mails that were forgotten. They stay as long as mails do, so that no
# late outcome is taken for that of a mail to come. They have no mail by which they are purged. Nor
# have the keys of mails for later that have another time before their command has come.
forgotten_keys = sa.Table(
    "forgotten_keys",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)


# This waits for a row that another replica is inserting, until that is committed.
KEEP_KEYS = """
    INSERT INTO mail_keys (key, message)
    SELECT column1, column2 FROM $rows(bytea, bigint) WHERE column1 IS NOT NULL
    ON CONFLICT (key) DO NOTHING
    """
NAME_KEYS = """
    UPDATE mail_keys SET message = column2 FROM $rows(bytea, bigint) WHERE key = column1
    """
KEEP_SCHEDULES = """
    UPDATE mail_keys SET scheduled_at = column2, schedule_set_at = column3
    FROM $rows(bytea, bigint, bigint)
    WHERE key = column1 AND (schedule_set_at IS NULL OR schedule_set_at <= column3)
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
_STATE = ("attempt", "outcome", "status", "at", "detail")
_OF_A_COPY = ("status", "at", "detail")  # of two copies of an outcome the first in time counts
KEEP_EARLY = (
    insert_text(
        early_outcomes,
        ("key", "recipient", *_STATE),
        {"recorded_at": "CAST($1 AS bigint)"},
        replace=_OF_A_COPY,
    )
    + " WHERE excluded.at < early_outcomes.at"
)
KEEP_HISTORY = (
    insert_text(history, history.c.keys(), replace=_OF_A_COPY) + " WHERE excluded.at < history.at"
)
KEEP_FORGOTTEN_KEYS = insert_text(
    forgotten_keys, ("key",), {"at": "CAST($1 AS bigint)"}, replace=("at",)
)
KEEP_MESSAGES = insert_text(messages, messages.c.keys())
KEEP_TAGS = insert_text(message_tags, message_tags.c.keys())
KEEP_MESSAGE_IDS = insert_text(message_ids, message_ids.c.keys())
KEEP_RECIPIENTS = insert_text(
    recipients, ("message", "recipient", "client", "address_hash", *_STATE), replace=_STATE
)
ADD_TOTALS = insert_text(totals, totals.c.keys(), add=COUNTS)


def forget_tags(connection: sa.Connection, mails: Iterable[tuple[int, str, str | None]]) -> None:
    """Delete the tags of mails: their numbers, clients and tags as in `messages`."""
    tagged = [
        (client, label, number)
        for number, client, tags in mails
        for label in labels(orjson.loads(tags or "{}"))
    ]
    place = sa.tuple_(message_tags.c.client, message_tags.c.tag, message_tags.c.message)
    for some in chunks(tagged):
        connection.execute(sa.delete(message_tags).where(place.in_(some)))


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
