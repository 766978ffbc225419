"""Claims on the recipients of mails, and what came of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "claims",
        sa.Column("email_id", sa.Text, primary_key=True),
        sa.Column("recipient", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("orphan", sa.Boolean, nullable=False),
        sa.Column("settled", sa.Integer, nullable=False),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("event", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("claims_created_at", "claims", ["created_at"])
