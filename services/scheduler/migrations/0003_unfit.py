"""The mails of a run that could not be made."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the number of subscriptions whose variables did not fit the templates."""
    op.add_column("runs", sa.Column("unfit", sa.BigInteger, nullable=False, server_default="0"))
