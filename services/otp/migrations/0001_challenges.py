"""Challenges, and the commands that they answered."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "challenges",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("digits", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("used_by", sa.Text),
        sa.Column("replaced_at", sa.BigInteger),
    )
    op.create_index("challenges_holder", "challenges", ["client", "email"])
    standing = sa.text("used_at IS NULL AND replaced_at IS NULL")
    op.create_index(
        "challenges_standing",
        "challenges",
        ["client", "email"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(
            "challenge_id",
            sa.Text,
            sa.ForeignKey("challenges.id", ondelete="CASCADE"),
            nullable=False,
        ),
    )
    op.create_index("ix_commands_challenge_id", "commands", ["challenge_id"])
