"""Endpoints, events, the deliveries of each event to each endpoint, and their tries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.Column("categories", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("old_secret", sa.Text),
        sa.Column("old_until", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("disabled_at", sa.BigInteger),
        sa.Column("disabled_for", sa.Text),
        sa.Column("announced", sa.Boolean, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("failing_since", sa.BigInteger),
        sa.Column("backlogged", sa.Boolean, nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("endpoint_id", sa.Text, primary_key=True),
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("token", sa.Text),
        sa.Column("begun_at", sa.BigInteger),
        sa.Column("tries", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("once", sa.Boolean, nullable=False),
    )
    op.create_table(
        "removed",
        sa.Column("endpoint_id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tries",
        sa.Column("endpoint_id", sa.Text, primary_key=True),
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("answer_headers", sa.Text, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("milliseconds", sa.BigInteger, nullable=False),
    )
    for table, name, columns in (
        ("endpoints", "client", ["client"]),
        ("messages", "address", ["address"]),
        ("messages", "kept_at", ["kept_at"]),
        ("deliveries", "due_at", ["due_at"]),
        ("deliveries", "state", ["endpoint_id", "state", "at"]),
        ("deliveries", "at", ["endpoint_id", "at", "message_id"]),
        ("deliveries", "message_id", ["message_id"]),
        ("tries", "at", ["endpoint_id", "at"]),
        ("tries", "message_id", ["message_id"]),
    ):
        op.create_index(f"ix_{table}_{name}", table, columns)
