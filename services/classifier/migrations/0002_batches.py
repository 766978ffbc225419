"""Stored verdicts, sums over all domains, and the tables of the mode `evidence`."""

from base64 import b64encode
from hashlib import blake2b

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROWS = 5000  # of old ids at a time

_KEPT = """
INSERT INTO domains
SELECT domain,
       CASE WHEN bounced > 0 THEN 2 WHEN delivered > 1000 THEN 1 ELSE 0 END,
       delivered, bounced, 0, 0, 0, 0, first_event_at, last_event_at
FROM domains_before
"""
_SUMMED = """
INSERT INTO totals
SELECT 0, COALESCE(SUM(CASE status WHEN 0 THEN 1 ELSE 0 END), 0),
       COALESCE(SUM(CASE status WHEN 1 THEN 1 ELSE 0 END), 0),
       COALESCE(SUM(CASE status WHEN 2 THEN 1 ELSE 0 END), 0),
       COALESCE(SUM(delivered), 0), COALESCE(SUM(bounced), 0)
FROM domains
"""


def upgrade() -> None:
    """Create the tables again and copy the rows."""
    op.drop_index("ix_seen_seen_at", "seen")
    for name in ("domains", "seen", "changes"):
        op.rename_table(name, f"{name}_before")
    _create()
    op.execute(_KEPT)
    op.execute(_SUMMED)
    _carry_ids(op.get_bind())
    for name in ("changes", "seen", "domains"):
        op.drop_table(f"{name}_before")


def _create() -> None:
    text, number = sa.Text, sa.BigInteger
    op.create_table(
        "domains",
        sa.Column("domain", text, primary_key=True),
        sa.Column("status", sa.SmallInteger, nullable=False),
        *(
            sa.Column(name, number, nullable=False)
            for name in (
                *("delivered", "bounced", "refused", "undetermined", "taken_back", "recipients"),
                *("first_event_at", "last_event_at"),
            )
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_domains_status", "domains", ["status", "domain"])
    op.create_table(
        "refusals",
        sa.Column("domain", text, primary_key=True),
        sa.Column("reply_class", text, primary_key=True),
        sa.Column("refused", number, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "seen",
        sa.Column("number", number().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("key", text, nullable=False, unique=True),
        sa.Column("seen_at", number, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("key", text, primary_key=True),
        sa.Column("domain", text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("changed_at", number, nullable=False),
    )
    op.create_index("ix_changes_changed_at", "changes", ["changed_at"])
    op.create_table(
        "totals",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        *(
            sa.Column(name, number, nullable=False)
            for name in ("unknown", "catch_all", "not_catch_all", "delivered", "bounced")
        ),
    )
    op.create_table(
        "mails",
        sa.Column("mail", text, primary_key=True),
        sa.Column("delivered", number, nullable=False),
        sa.Column("refused", number, nullable=False),
        sa.Column("seen_at", number, nullable=False),
    )
    op.create_index("ix_mails_seen_at", "mails", ["seen_at"])
    op.create_table(
        "sketches",
        sa.Column("domain", text, primary_key=True),
        sa.Column("registers", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "rules",
        sa.Column("name", text, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("done_to", text),
    )
    # The one that _KEPT follows.
    op.execute("INSERT INTO rules VALUES ('counts 1000', 1, NULL)")


def _carry_ids(connection: sa.Connection) -> None:
    """Copy the counted ids by their keys, the oldest first, as the purge needs them."""
    old = connection.execute(
        sa.text("SELECT event_id, seen_at FROM seen_before ORDER BY seen_at, event_id")
    )
    while rows := old.fetchmany(ROWS):
        connection.execute(
            sa.text("INSERT INTO seen (key, seen_at) VALUES (:key, :seen_at)"),
            [{"key": _key(event_id), "seen_at": at} for event_id, at in rows],
        )
    for event_id, domain, status, at in connection.execute(
        sa.text("SELECT event_id, domain, status, changed_at FROM changes_before")
    ).all():
        connection.execute(
            sa.text("INSERT INTO changes VALUES (:key, :domain, :status, :at)"),
            {
                "key": _key(event_id),
                "domain": domain,
                "status": ("unknown", "catch-all", "not-catch-all").index(status),
                "at": at,
            },
        )


def _key(event_id: str) -> str:
    """Return what `services.classifier.evidence.hashed` returned when this was written."""
    return b64encode(blake2b(f"event/{event_id}".encode(), digest_size=15).digest()).decode()
