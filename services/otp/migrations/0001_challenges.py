"""The first tables, which the next version drops: a new database begins there."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create nothing."""
