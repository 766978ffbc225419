"""Make the table of Idempotency-Keys, and the column of the addresses that a client may use."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create it."""
    op.add_column("clients", sa.Column("senders", sa.JSON(none_as_null=True)))
    op.create_table(
        "uses",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
    )
    op.create_index("uses_requested_at", "uses", ["requested_at"])
