"""Make the table of the clients' keys, and the columns of what a client may do and from where."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create them; each client keeps its key and all its rights.

    `clients.key_id` stays: replicas of the version before read it as long as they run.
    """
    op.add_column("clients", sa.Column("scopes", sa.JSON(none_as_null=True)))
    op.add_column("clients", sa.Column("networks", sa.JSON(none_as_null=True)))
    op.add_column("clients", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.create_table(
        "client_keys",
        sa.Column(
            "client",
            sa.String(64),
            sa.ForeignKey("clients.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_on", sa.Date),
    )
    op.execute(
        "INSERT INTO client_keys (client, id, created_at) "
        "SELECT id, key_id, created_at FROM clients"
    )
