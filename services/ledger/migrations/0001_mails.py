"""Mails, their recipients, earlier outcomes, and sums."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NOT_DELIVERED = sa.text("status <> 2")  # see `services.ledger.mails.STATUSES`
# A day of it is forgotten by dropping a table; rows of a day without one are in the default.
_HISTORY = """
CREATE TABLE history (
    message BIGINT NOT NULL,
    recipient TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    outcome SMALLINT NOT NULL,
    status SMALLINT NOT NULL,
    at BIGINT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (message, recipient, attempt, outcome)
)
"""
_COUNTS = (
    *("waiting", "delivered", "bounced_permanent", "bounced_transient", "bounced_undetermined"),
    *("failed", "expired", "suppressed", "cancelled", "uncertain"),
)


def upgrade() -> None:
    """Create the tables."""
    _create_mails()
    _create_recipients()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"{_HISTORY} PARTITION BY RANGE (message)")
        op.execute("CREATE TABLE history_default PARTITION OF history DEFAULT")
    else:
        op.execute(f"{_HISTORY} WITHOUT ROWID")
    op.create_table(
        "totals",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("dimension", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True),
        sa.Column("category", sa.SmallInteger, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("ix_totals_hour", "totals", ["hour"])


def _create_mails() -> None:
    op.create_table(
        "mail_keys",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("message", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("email_id", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("category", sa.SmallInteger, nullable=False),
        sa.Column("sender", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("list_id", sa.Text),
        sa.Column("tags", sa.Text),
        sa.Column("metadata", sa.Text),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    op.create_index("ix_messages_client", "messages", ["client", "category", "number"])
    op.create_table(
        "message_tags",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("message", sa.BigInteger, primary_key=True),
        sqlite_with_rowid=False,
    )


def _create_recipients() -> None:
    op.create_table(
        "recipients",
        sa.Column("message", sa.BigInteger, primary_key=True),
        sa.Column("recipient", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("address_hash", sa.BigInteger, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("outcome", sa.SmallInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_recipients_address", "recipients", ["address_hash", "message"])
    op.create_index(
        "ix_recipients_status",
        "recipients",
        ["client", "status", "message"],
        sqlite_where=_NOT_DELIVERED,
        postgresql_where=_NOT_DELIVERED,
    )
    op.create_table(
        "early_outcomes",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("recipient", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.SmallInteger, primary_key=True),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_early_outcomes_recorded_at", "early_outcomes", ["recorded_at"])
