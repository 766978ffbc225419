"""The tables of the sender; `migrations` holds the road to them.

All times are milliseconds since 1970 by the database's clock. No word of a mail is ever here.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

# One row for each recipient of each mail, from its first attempt until it is forgotten.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("email_id", sa.Text, primary_key=True),
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),  # that was claimed last
    sa.Column("token", sa.Text),  # of who claimed it; none when nobody is at it
    sa.Column("lease_until", sa.BigInteger, nullable=False),  # then who claimed it counts as dead
    sa.Column("orphan", sa.Boolean, nullable=False),  # it was taken over from one who died
    sa.Column("settled", sa.Integer, nullable=False),  # the attempt of `event`, 0 before the first
    sa.Column("final", sa.Boolean, nullable=False),  # nothing more will be said than `event`
    sa.Column("kind", sa.Text),  # the type of `event`
    sa.Column("event", sa.Text),  # what came of the last attempt, as it goes over the wire
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("claims_created_at", "created_at"),
)

# One row for each rate that an operator has set.
paces = sa.Table(
    "paces",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    # Microseconds: until when what was taken of it would last, sent evenly.
    sa.Column("used_until", sa.BigInteger, nullable=False),
)
