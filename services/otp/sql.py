"""The tables of the otp service, as `migrations` makes them, and the SQL on them.

In a text, `$1` and so on are values and `$rows` is a table of rows: see `dialect.execute`. All
times are milliseconds since 1970 by the database's clock. No code is ever here.
"""

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from services.otp.codes import MAX_CLOCK_STEP_MS, Challenge, CodeScope
from shared.storage import dialect
from shared.storage.dialect import Prepared, insert_text

Row = sa.Row[tuple[Any, ...]]

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


_COLUMNS = (
    *("id", "client", "purpose", "email", "nonce", "key_id", "digits"),
    *("created_at", "expires_at", "mailed_at"),
)
_CHALLENGE = ", ".join(_COLUMNS)
FIND_CHALLENGES = f"""
    SELECT {_CHALLENGE}, used_by FROM challenges WHERE id IN (SELECT column1 FROM $rows(text))
    """  # noqa: S608 -- of texts above
# A recipient without a challenge is an empty row, so that the time taken does not show it.
_FIND_STANDING = f"""
    SELECT {_CHALLENGE} FROM $rows(text)
    LEFT JOIN challenges ON recipient = column1 AND died_at IS NULL WHERE column1 IS NOT NULL
    """  # noqa: S608 -- of texts above
ADD_CHALLENGES = insert_text(challenges, (*_COLUMNS, "recipient"))
SET_MAILED = "UPDATE challenges SET mailed_at = $1 WHERE id IN (SELECT column1 FROM $rows(text))"
END_CHALLENGES = """
    UPDATE challenges SET died_at = $1
    WHERE died_at IS NULL AND id IN (SELECT column1 FROM $rows(text))
    """
CANCEL_CHALLENGE = """
    UPDATE challenges SET died_at = $1 WHERE died_at IS NULL AND id = $2 AND client = $3
    """
# Each challenge by one of the guesses that are right for it.
USE_CHALLENGES = f"""
    UPDATE challenges SET died_at = CAST($1 AS bigint), used_by = column2 FROM $rows(text, text)
    WHERE id = column1 AND died_at IS NULL AND expires_at > CAST($1 AS bigint)
    AND created_at <= CAST($1 AS bigint) + {MAX_CLOCK_STEP_MS}
    RETURNING used_by
    """  # noqa: S608 -- of a number
FIND_ANSWERS = """
    SELECT id, at, challenge_id, resend_at, reason, retry_after FROM commands
    WHERE id IN (SELECT column1 FROM $rows(text))
    """
# A new answer to an old command is because the key of the first one was withdrawn.
_ANSWER = ("at", "challenge_id", "resend_at", "reason", "retry_after")
KEEP_ANSWERS = insert_text(commands, ("id", *_ANSWER), replace=_ANSWER)
FIND_MAILS = """
    SELECT subject, minute, sent FROM mails
    WHERE subject IN (SELECT column1 FROM $rows(text)) AND minute >= $1
    """
COUNT_MAILS = insert_text(mails, ("subject", "minute", "sent"), add=("sent",))
FIND_FAILURES = """
    SELECT subject, hour, failed FROM failures
    WHERE subject IN (SELECT column1 FROM $rows(text)) AND hour >= $1
    """
COUNT_FAILURES = insert_text(failures, ("subject", "hour", "failed"), add=("failed",))
FIND_GUESSES = """
    SELECT id, at, challenge_id FROM guesses WHERE id IN (SELECT column1 FROM $rows(text))
    """
# The guesses of a recipient by challenge and result; without any, a row with 0: see _FIND_STANDING.
COUNT_GUESSES = f"""
    SELECT column1, challenge_id, verified, COUNT(challenge_id)
    FROM $rows(text)
    LEFT JOIN guesses ON recipient = column1 AND challenge_id > '{UNSEEN}' AND at > $1
    WHERE column1 IS NOT NULL GROUP BY column1, challenge_id, verified
    """  # noqa: S608 -- of a constant
RECORD_GUESSES = insert_text(
    guesses, ("id", "at", "recipient", "challenge_id"), {"verified": "false"}
)
SET_VERIFIED = "UPDATE guesses SET verified = true WHERE id IN (SELECT column1 FROM $rows(text))"

_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.bindparam("key", type_=sa.BigInteger)))


class OtpTransaction:
    """One transaction: its time, its rows, and its locks among the replicas."""

    def __init__(self, connection: sa.Connection, time: Prepared) -> None:
        self._connection = connection
        self._time = time

    @cached_property
    def now(self) -> int:
        """The database's time at the first look, in milliseconds since 1970."""
        return int(self._time.run(self._connection).scalar_one())

    def lock(self, names: Iterable[str]) -> None:
        """Lock names until the end of the transaction.

        A read after this sees all commits of earlier owners of these names. A SQLite file has one
        writer at a time anyway.
        """
        if self._connection.dialect.name == "postgresql":
            # In one order everywhere, or two transactions could wait for each other.
            keys = sorted({*map(_lock_key, names)})
            if keys:
                self._connection.execute(_LOCK, [{"key": key} for key in keys])

    def execute(self, text: str, *values: object) -> None:
        """Execute a text with values alone."""
        dialect.execute(self._connection, text, values)

    def change(self, statement: sa.Executable, **values: object) -> int:
        """Execute a statement of SQLAlchemy; return the number of rows that it changes."""
        return self._connection.execute(statement, values).rowcount

    def run(self, text: str, rows: Iterable[Sequence[object]], *values: object) -> Sequence[Row]:
        """Execute a text with rows, if there are any; return the rows that it returns."""
        return dialect.run(self._connection, text, [*rows], values)

    def standing(self, recipients: Iterable[str]) -> Sequence[Challenge]:
        """Return the challenges of some recipients that nothing has ended so far."""
        found = self.run(_FIND_STANDING, [(each,) for each in {*recipients}])
        # The row of a missing challenge is read as well, so that it takes its time.
        read = [(row.id, _challenge(row)) for row in found]
        return [challenge for id_, challenge in read if id_ is not None]

    def challenges(self, ids: Iterable[str | None]) -> Mapping[str, Challenge]:
        """Return challenges by their ids, ended or not."""
        given = {each for each in ids if each is not None}
        found = self.run(FIND_CHALLENGES, [(each,) for each in given])
        return {row.id: _challenge(row) for row in found}


def _lock_key(name: str) -> int:
    """Return a lock's number; names with one number wait for each other and do no harm."""
    digest = hashlib.blake2b(f"otp/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _challenge(row: Sequence[Any]) -> Challenge:
    id_, client, purpose, email, nonce, key_id, digits, created_at, expires_at, mailed_at, *_ = row
    scope = CodeScope(client, purpose, email)
    return Challenge(id_, scope, nonce, key_id, digits, created_at, expires_at, mailed_at)
