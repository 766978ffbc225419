"""The traces of events, which go on in the requests that follow from them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the traceparent of the event."""
    op.add_column("messages", sa.Column("trace", sa.Text))
