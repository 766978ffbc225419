"""Make the table of the removals of clients that are not announced."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create it. Clients that were removed before are not announced."""
    op.create_table(
        "removals",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
    )
