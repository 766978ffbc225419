"""The tables of the classifier; `migrations` holds the road to them.

All times are milliseconds since 1970: those of domains as the events tell them, the others by the
database's clock.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

domains = sa.Table(
    "domains",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("bounced", sa.BigInteger, nullable=False),
    sa.Column("first_event_at", sa.BigInteger, nullable=False),
    sa.Column("last_event_at", sa.BigInteger, nullable=False),
)

# The events that were counted: a copy of one counts nothing.
seen = sa.Table(
    "seen",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),
)

# The few events that changed a verdict: a copy of one announces it again, since nobody knows
# whether the announcement was published before the process died.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column(
        "event_id", sa.Text, sa.ForeignKey("seen.event_id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("domain", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
)
