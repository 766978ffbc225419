"""The recipient of a challenge in lower case: a cooldown is that of all spellings of an address."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; both databases fold at least the letters of ASCII."""
    op.add_column("challenges", sa.Column("recipient", sa.Text, nullable=False, server_default=""))
    op.execute("UPDATE challenges SET recipient = lower(email)")
    standing = sa.text("died_at IS NULL")
    op.create_index(
        "challenges_recipient",
        "challenges",
        ["recipient"],
        sqlite_where=standing,
        postgresql_where=standing,
    )
