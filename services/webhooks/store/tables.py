"""The tables of the webhooks, as `migrations` makes them.

All times are milliseconds since 1970, by the database's clock. No client is the client ''.

An event is one row of `messages`, for all endpoints, and one of `deliveries` for each endpoint. One
that is to be sent has a `due_at`. A service that takes it moves that on by a lease, and writes its
token beside it: if the service dies, the row is due again when the lease is over.

An endpoint with a backlog, or one that fails, has most of its rows parked, without a time: so what
is due is little, and looking for it costs the same however much waits.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("events", sa.Text, nullable=False),  # JSON, as are the two below
    sa.Column("categories", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),  # sealed
    sa.Column("old_secret", sa.Text),  # sealed; signs too
    sa.Column("old_until", sa.BigInteger),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("disabled_at", sa.BigInteger),
    sa.Column("disabled_for", sa.Text),
    sa.Column("announced", sa.Boolean, nullable=False),  # that it was disabled
    sa.Column("failures", sa.BigInteger, nullable=False),  # since the last success
    sa.Column("failing_since", sa.BigInteger),
    sa.Column("backlogged", sa.Boolean, nullable=False),  # new events are parked
    sa.Column("registered_at", sa.BigInteger),  # of its client; NULL for the administrator's
    sa.Index("ix_endpoints_client", "client"),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("message_id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),  # in lower case; empty for none
    sa.Column("body", sa.LargeBinary, nullable=False),  # as it is sent
    sa.Column("at", sa.BigInteger, nullable=False),  # of the event
    sa.Column("kept_at", sa.BigInteger, nullable=False),
    sa.Column("trace", sa.Text),  # the traceparent of the event
    sa.Index("ix_messages_address", "address"),
    sa.Index("ix_messages_kept_at", "kept_at"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("endpoint_id", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Text, primary_key=True),
    sa.Column("state", sa.Integer, nullable=False),  # see `attempts.State`
    sa.Column("at", sa.BigInteger, nullable=False),  # of the event
    sa.Column("due_at", sa.BigInteger),
    sa.Column("token", sa.Text),
    sa.Column("begun_at", sa.BigInteger),  # the first try; of the last replay, if there was one
    sa.Column("tries", sa.BigInteger, nullable=False),  # since then
    sa.Column("number", sa.BigInteger, nullable=False),  # of the last try of all
    sa.Column("once", sa.Boolean, nullable=False),  # a test
    sa.Index("ix_deliveries_due_at", "due_at"),
    sa.Index("ix_deliveries_state", "endpoint_id", "state", "at"),
    sa.Index("ix_deliveries_at", "endpoint_id", "at", "message_id"),
    sa.Index("ix_deliveries_message_id", "message_id"),
)

# Endpoints that were deleted, until the purge has deleted what belongs to them.
removed = sa.Table(
    "removed",
    metadata,
    sa.Column("endpoint_id", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)

# The clients that were removed lately, by the last registration that ended: what was asked for in
# the name of one may arrive after its removal.
removed_clients = sa.Table(
    "removed_clients",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("registered_at", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)

tries = sa.Table(
    "tries",
    metadata,
    sa.Column("endpoint_id", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),  # JSON
    sa.Column("status", sa.Integer),
    sa.Column("answer_headers", sa.Text, nullable=False),  # JSON
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("milliseconds", sa.BigInteger, nullable=False),
    sa.Index("ix_tries_at", "endpoint_id", "at"),
    sa.Index("ix_tries_message_id", "message_id"),
)
