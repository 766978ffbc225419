"""Make the table of the clients' used quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create it."""
    op.create_table(
        "quotas",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("used_until", sa.BigInteger, nullable=False),
    )
