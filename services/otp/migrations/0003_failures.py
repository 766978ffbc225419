"""Failures of clients and IP addresses at all recipients."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table; earlier failures are not in it."""
    op.create_table(
        "failures",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        sa.Column("failed", sa.Integer, nullable=False),
    )
    op.create_index("failures_hour", "failures", ["hour"])
