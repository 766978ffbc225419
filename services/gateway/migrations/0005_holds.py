"""Make the column of the Idempotency-Keys whose request is under way."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create it; NULL for a key whose repeats are answered at once."""
    op.add_column("uses", sa.Column("held_until", sa.BigInteger))
