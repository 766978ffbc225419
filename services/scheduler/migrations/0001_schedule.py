"""Content types, subscriptions, mails for later, runs and the reports on them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "content_types",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("html", sa.Text, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("paused_at", sa.BigInteger),
        sa.Column("paused_for", sa.Text),
        sa.Column("paused_by", sa.Text),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text, primary_key=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("client", "content_type", "email", "folded", "frequency", "timezone")
        ),
        sa.Column("at", sa.Text),
        sa.Column("variables", sa.Text, nullable=False),
        sa.Column("missed", sa.Text, nullable=False),
        sa.Column("retries", sa.Integer),
        sa.Column("locale", sa.Text),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("asked_by", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("period_at", sa.BigInteger),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("token", sa.Text),
    )
    for name, columns in (
        ("due_at", ["client", "content_type", "due_at"]),
        ("content_type", ["client", "content_type", "id"]),
        ("folded", ["folded"]),
    ):
        op.create_index(f"ix_subscriptions_{name}", "subscriptions", columns)
    op.create_table(
        "mails",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("email_id", sa.Text, primary_key=True),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("command", sa.LargeBinary),
    )
    op.create_index("ix_mails_due_at", "mails", ["due_at"])
    op.create_table(
        "mail_recipients",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("client", "email_id", "folded")),
    )
    op.create_index("ix_mail_recipients_folded", "mail_recipients", ["folded"])
    op.create_table(
        "forgotten",
        sa.Column("address_key", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("content_type", sa.Text, primary_key=True),
        sa.Column("period_at", sa.BigInteger, primary_key=True),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("published", "unknown_mailboxes", "complaints")
        ),
        *(
            sa.Column(f"excused_{name}", sa.BigInteger, nullable=False, server_default="0")
            for name in ("published", "unknown_mailboxes", "complaints")
        ),
    )
    op.create_table(
        "reports",
        sa.Column("email_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_reports_at", "reports", ["at"])
