"""The tables of the classifier, as `migrations` makes them.

All times are milliseconds since 1970: in `domains` those of the events, elsewhere by the
database's clock.
"""

import sqlalchemy as sa

from shared.contracts import Verdict

metadata = sa.MetaData()

# The verdicts by their number in `domains.status`, which is short since an index holds it.
STATUSES = (Verdict.UNKNOWN, Verdict.CATCH_ALL, Verdict.NOT_CATCH_ALL)

domains = sa.Table(
    "domains",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("bounced", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),  # all in `refusals`
    sa.Column("undetermined", sa.BigInteger, nullable=False),  # of them
    sa.Column("taken_back", sa.BigInteger, nullable=False),
    sa.Column("recipients", sa.BigInteger, nullable=False),
    sa.Column("first_event_at", sa.BigInteger, nullable=False),
    sa.Column("last_event_at", sa.BigInteger, nullable=False),
    sa.Index("ix_domains_status", "status", "domain"),
    sqlite_with_rowid=False,  # one tree to write to instead of two
    postgresql_with={"fillfactor": 70},  # a changed row stays on its page, out of all indexes
)

# Refusals that prove nothing, by reply class.
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("reply_class", sa.Text, primary_key=True),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# The events that were counted: a copy of one counts nothing. They are deleted in the order of
# `number`, which is about that of `processed_at`.
processed_events = sa.Table(
    "processed_events",
    metadata,
    # SQLite numbers rows by itself for this very type alone.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("processed_at", sa.BigInteger, nullable=False),
)

# The few events that changed a verdict: a copy of one announces the change again, since the process
# may have been killed before it published the announcement.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("domain", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False, index=True),
)

# Sums over all domains. Each connection mostly adds to a row of its own: on one row all of them
# would wait for each other.
totals = sa.Table(
    "totals",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("unknown", sa.BigInteger, nullable=False),
    sa.Column("catch_all", sa.BigInteger, nullable=False),
    sa.Column("not_catch_all", sa.BigInteger, nullable=False),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("bounced", sa.BigInteger, nullable=False),
)

# The outcomes of one mail to one recipient, in the mode `evidence` alone.
mails = sa.Table(
    "mails",
    metadata,
    sa.Column("mail", sa.Text, primary_key=True),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),
)

# The distinct recipients of a domain's deliveries, estimated; in the mode `evidence` alone.
sa.Table(
    "sketches",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("registers", sa.LargeBinary, nullable=False),
)

# The rule that all verdicts in `domains` follow, and how far the change to another has come.
rules = sa.Table(
    "rules",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),  # counts the changes of rule
    sa.Column("done_to", sa.Text),  # the last domain; NULL when all are judged
)
