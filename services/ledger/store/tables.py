"""The tables of the ledger, as `migrations` makes them.

All times are milliseconds since 1970: those of outcomes as they were reported, `recorded_at` by the
database's clock. A mail's number begins with its time of acceptance, see `services.ledger.mails`:
rows of one time are neighbours in every tree, a page of a list is a range, and the oldest rows are
the first. A mail without a client has the client ''. Statuses and classes are numbers: STATUSES and
CATEGORIES have their names.
"""

import sqlalchemy as sa

from services.ledger.changes import COUNTS

metadata = sa.MetaData()

# Each mail that a command or an outcome named. Its row is locked by the transaction that records.
mail_keys = sa.Table(
    "mail_keys",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("message", sa.BigInteger),  # NULL until the command has come
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
