"""Purposes, guesses, mails and refused commands.

Challenges of the first version have no purpose and no guesses: they are dropped, and their
recipients request another code. None lives longer than a day.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Drop all tables and create them again."""
    op.drop_table("commands", if_exists=True)
    op.drop_table("challenges", if_exists=True)
    _create_challenges()
    _create_commands()
    _create_guesses()
    _create_mails()


def _create_challenges() -> None:
    op.create_table(
        "challenges",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("digits", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("mailed_at", sa.BigInteger, nullable=False),
        sa.Column("died_at", sa.BigInteger),
        sa.Column("used_by", sa.Text),
    )
    dead = sa.text("died_at IS NOT NULL")
    op.create_index(
        "challenges_died_at", "challenges", ["died_at"], sqlite_where=dead, postgresql_where=dead
    )
    standing = sa.text("died_at IS NULL")
    op.create_index(
        "challenges_standing",
        "challenges",
        ["email", "purpose", "client"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )


def _create_commands() -> None:
    challenge = sa.ForeignKey("challenges.id", ondelete="CASCADE")
    op.create_table(
        "commands",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("challenge_id", sa.Text, challenge),
        sa.Column("resend_at", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("retry_after", sa.BigInteger),
    )
    op.create_index("ix_commands_at", "commands", ["at"])
    op.create_index("ix_commands_challenge_id", "commands", ["challenge_id"])


def _create_guesses() -> None:
    op.create_table(
        "guesses",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("challenge_id", sa.Text, nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
    )
    op.create_index("ix_guesses_at", "guesses", ["at"])
    op.create_index("guesses_recipient", "guesses", ["recipient", "challenge_id", "at", "verified"])


def _create_mails() -> None:
    op.create_table(
        "mails",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("minute", sa.BigInteger, primary_key=True),
        sa.Column("sent", sa.Integer, nullable=False),
    )
    op.create_index("mails_minute", "mails", ["minute"])
