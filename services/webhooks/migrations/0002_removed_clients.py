"""Make the table of removed clients, and the column that tells their endpoints from later ones."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create them. An endpoint of before has no time, and ends with its client."""
    op.add_column("endpoints", sa.Column("registered_at", sa.BigInteger))
    op.create_table(
        "removed_clients",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
