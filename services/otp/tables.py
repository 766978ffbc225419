"""The tables of the otp service, as `migrations` makes them.

All times are milliseconds since 1970 by the database's clock. No code is ever here.
"""

import uuid

import sqlalchemy as sa

metadata = sa.MetaData()

# The id of no challenge, less than any other id and as long: the size of a row must not tell
# whether there was a challenge.
UNSEEN = str(uuid.UUID(int=0))

challenges = sa.Table(
    "challenges",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("nonce", sa.LargeBinary, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("digits", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("mailed_at", sa.BigInteger, nullable=False),  # for the last time
    sa.Column("died_at", sa.BigInteger),  # used, expired, replaced or cancelled
    sa.Column("used_by", sa.Text),  # the guess
    sa.Column("recipient", sa.Text, nullable=False),  # `email` in lower case
)
standing = challenges.c.died_at.is_(None)
# Of ended challenges alone, or SQLite would choose this index to find those that stand.
sa.Index(
    "challenges_died_at",
    challenges.c.died_at,
    sqlite_where=sa.not_(standing),
    postgresql_where=sa.not_(standing),
)
sa.Index(
    "challenges_recipient",
    challenges.c.recipient,
    sqlite_where=standing,
    postgresql_where=standing,
)
# One scope never has two challenges that stand.
sa.Index(
    "challenges_standing",
    challenges.c.email,
    challenges.c.purpose,
    challenges.c.client,
    unique=True,
    sqlite_where=standing,
    postgresql_where=standing,
)

# The answers to commands: two commands with one id, for one scope, are one mail.
commands = sa.Table(
    "commands",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column(
        "challenge_id",
        sa.Text,
        sa.ForeignKey("challenges.id", ondelete="CASCADE"),
        index=True,
    ),
    sa.Column("resend_at", sa.BigInteger),
    sa.Column("reason", sa.Text),  # why nothing was mailed
    sa.Column("retry_after", sa.BigInteger),  # milliseconds
)

# The tries of a challenge are its rows here; the failures of a recipient are those not verified.
guesses = sa.Table(
    "guesses",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # of request and code, by a secret key
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("challenge_id", sa.Text, nullable=False),  # UNSEEN if it was compared with none
    sa.Column("verified", sa.Boolean, nullable=False),
    # A covering index: a count reads no row of the table.
    sa.Index("guesses_recipient", "recipient", "challenge_id", "at", "verified"),
)
compared = guesses.c.challenge_id > UNSEEN

# The mails sent in a minute, for each subject of a limit.
mails = sa.Table(
    "mails",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("minute", sa.BigInteger, primary_key=True),  # since 1970
    sa.Column("sent", sa.Integer, nullable=False),
    sa.Index("mails_minute", "minute"),
)

# The guesses of an hour, at all recipients, that were not verified, for each subject of a limit.
failures = sa.Table(
    "failures",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("hour", sa.BigInteger, primary_key=True),  # since 1970
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Index("failures_hour", "hour"),
)
