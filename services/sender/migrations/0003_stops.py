"""A copy of the suppression list, and the mails that were cancelled."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "suppressions",
        sa.Column("address_key", sa.Text, primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("list_id", sa.Text, primary_key=True),
        sa.Column("categories", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("purge_at", sa.BigInteger),
    )
    ending = sa.text("purge_at IS NOT NULL")
    op.create_index(
        "suppressions_purge_at",
        "suppressions",
        ["purge_at"],
        sqlite_where=ending,
        postgresql_where=ending,
    )
    op.create_table(
        "cancellations",
        sa.Column("email_id", sa.Text, primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("cancellations_created_at", "cancellations", ["created_at"])
