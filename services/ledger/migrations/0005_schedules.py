"""The times of mails for later."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns, which are empty for all other mails."""
    op.add_column("mail_keys", sa.Column("scheduled_at", sa.BigInteger))
    op.add_column("mail_keys", sa.Column("schedule_set_at", sa.BigInteger))
