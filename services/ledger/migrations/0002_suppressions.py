"""The suppression list."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "suppressions",
        sa.Column("address_key", sa.Text, primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("list_id", sa.Text, primary_key=True),
        sa.Column("email", sa.Text),
        sa.Column("categories", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("email_id", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("announced", sa.Boolean, nullable=False),
        sa.Column("purge_at", sa.BigInteger),
        sa.Column("listed_for", sa.Text, nullable=False),
    )
    for name, columns, condition in (
        ("unannounced", ["version"], "NOT announced"),
        ("purge_at", ["purge_at"], "purge_at IS NOT NULL"),
        ("at", ["at"], "NOT removed"),
        ("listed_for", ["listed_for", "at"], "NOT removed"),
    ):
        where = sa.text(condition)
        op.create_index(
            f"ix_suppressions_{name}",
            "suppressions",
            columns,
            sqlite_where=where,
            postgresql_where=where,
        )
