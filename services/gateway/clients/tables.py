"""The tables of the gateway; `migrations` holds the road to them."""

import sqlalchemy as sa

metadata = sa.MetaData()

clients = sa.Table(
    "clients",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("senders", sa.JSON(none_as_null=True)),  # From addresses and domains; any if absent
)

# Which request a client's Idempotency-Key stands for, and a keyed hash of its body.
uses = sa.Table(
    "uses",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("requested_at", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Index("uses_requested_at", "requested_at"),
)

# Until when what a client has asked is enough at its quota.
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("used_until", sa.BigInteger, nullable=False),  # microseconds since 1970
)
