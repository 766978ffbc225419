"""The Message-IDs that clients have chosen."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table; mails that were recorded before are not in it."""
    op.create_table(
        "message_ids",
        sa.Column("message", sa.BigInteger, primary_key=True),
        sa.Column("address_hash", sa.BigInteger, primary_key=True),
        sa.Column("id_hash", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_message_ids_hash", "message_ids", ["id_hash", "address_hash", "message"])
