"""The tables of the otp service; `migrations` holds the road to them.

All times are milliseconds since 1970 by the database's clock. No code is ever here.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

challenges = sa.Table(
    "challenges",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("nonce", sa.LargeBinary, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("digits", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger),
    sa.Column("used_by", sa.Text),  # the id of the request
    sa.Column("replaced_at", sa.BigInteger),  # a newer one stands for this holder
    sa.Index("challenges_holder", "client", "email"),
)
standing = sa.and_(challenges.c.used_at.is_(None), challenges.c.replaced_at.is_(None))
# Two replicas that issue at once for one holder make one challenge.
sa.Index(
    "challenges_standing",
    challenges.c.client,
    challenges.c.email,
    unique=True,
    sqlite_where=standing,
    postgresql_where=standing,
)

# Which challenge a command was answered with: two commands with one id are one code.
commands = sa.Table(
    "commands",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "challenge_id",
        sa.Text,
        sa.ForeignKey("challenges.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
)
