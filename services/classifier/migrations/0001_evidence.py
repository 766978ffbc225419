"""Domains, and the events that were counted for them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "domains",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("bounced", sa.BigInteger, nullable=False),
        sa.Column("first_event_at", sa.BigInteger, nullable=False),
        sa.Column("last_event_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "seen",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_seen_seen_at", "seen", ["seen_at"])
    op.create_table(
        "changes",
        sa.Column(
            "event_id",
            sa.Text,
            sa.ForeignKey("seen.event_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
    )
