"""The keys of mails that were forgotten, so that they can be purged."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# The number of a mail begins with the milliseconds of its acceptance, above 20 bits.
_FILL = """
    INSERT INTO forgotten_keys (key, at)
    SELECT key, message / 1048576 FROM mail_keys
    WHERE message IS NOT NULL AND message NOT IN (SELECT number FROM messages)
    """


def upgrade() -> None:
    """Create the table, with the keys of all mails that were forgotten before."""
    op.create_table(
        "forgotten_keys",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sqlite_with_rowid=False,
    )
    op.execute(_FILL)
