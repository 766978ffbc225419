"""The table of counted events under the name processed_events."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Rename the table and its time; ids that were counted stay counted."""
    op.rename_table("seen", "processed_events")
    op.execute("ALTER TABLE processed_events RENAME COLUMN seen_at TO processed_at")
