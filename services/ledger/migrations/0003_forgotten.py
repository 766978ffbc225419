"""The addresses that were forgotten, as keyed hashes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "forgotten",
        sa.Column("address_key", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
