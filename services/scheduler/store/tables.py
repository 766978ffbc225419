"""The tables of the scheduler, as `migrations` makes them.

All times are milliseconds since 1970, by the database's clock. No client is the client ''.

What is due has a `due_at`. A scheduler that takes a row moves its `due_at` on by a lease, and
writes its token beside it: if it dies, the row is due again when the lease is over.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

content_types = sa.Table(
    "content_types",
    metadata,
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
    sa.Column("paused_by", sa.Text),  # the id of the last mail that was reported, or event
)

# The id follows from the client, the content type and the address: there is one subscription of
# these, and a second one after it ended mails no period again.
subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("folded", sa.Text, nullable=False),  # the address in lower case
    sa.Column("frequency", sa.Text, nullable=False),
    sa.Column("timezone", sa.Text, nullable=False),
    sa.Column("at", sa.Text),  # a local time
    sa.Column("variables", sa.Text, nullable=False),  # JSON
    sa.Column("missed", sa.Text, nullable=False),
    sa.Column("retries", sa.Integer),
    sa.Column("locale", sa.Text),
    sa.Column("pending", sa.Boolean, nullable=False),  # until the subscriber has confirmed
    sa.Column("asked_at", sa.BigInteger),  # when its last mail with the link was made
    sa.Column("asked_by", sa.Text),  # the id of the question that led to it
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("period_at", sa.BigInteger),  # the period that is mailed next; NULL while pending
    sa.Column("due_at", sa.BigInteger),  # when it is mailed, or its lease ends; NULL while pending
    sa.Column("token", sa.Text),  # of the scheduler that mails it
    sa.Index("ix_subscriptions_due_at", "client", "content_type", "due_at"),
    sa.Index("ix_subscriptions_content_type", "client", "content_type", "id"),
    sa.Index("ix_subscriptions_folded", "folded"),
)

# Mails for later. A cancelled one stays until its outcomes are published, or, if its command has
# not come, until it can come no more.
mails = sa.Table(
    "mails",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("email_id", sa.Text, primary_key=True),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("token", sa.Text),
    sa.Column("cancelled", sa.Boolean, nullable=False),
    sa.Column("command", sa.LargeBinary),  # as on the wire
    sa.Column("trace", sa.Text),  # the traceparent of the request for it
    sa.Index("ix_mails_due_at", "due_at"),
)

# The recipients of mails for later whose commands are kept, by which a person is found.
mail_recipients = sa.Table(
    "mail_recipients",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("email_id", sa.Text, primary_key=True),
    sa.Column("folded", sa.Text, primary_key=True, index=True),
)

# Addresses that were forgotten, as keyed hashes: a command from before may come after that.
forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("address_key", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)

# The mails of a content type for one period. Those of before it was last resumed are `excused`:
# they do not pause it again.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("content_type", sa.Text, primary_key=True),
    sa.Column("period_at", sa.BigInteger, primary_key=True),
    sa.Column("published", sa.BigInteger, nullable=False),
    sa.Column("unknown_mailboxes", sa.BigInteger, nullable=False),
    sa.Column("complaints", sa.BigInteger, nullable=False),
    sa.Column("excused_published", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("excused_unknown_mailboxes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("excused_complaints", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("unfit", sa.BigInteger, nullable=False, server_default="0"),
)

# The reports that are counted in `runs`, so that a copy counts once.
reports = sa.Table(
    "reports",
    metadata,
    sa.Column("email_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
)
