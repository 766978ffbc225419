"""The traces of mails for later, which go on when they are sent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the traceparent of the request for it."""
    op.add_column("mails", sa.Column("trace", sa.Text))
