"""What is said to a database, made once: making a statement costs more than running it.

Times in parameters are what `now` gave in the same transaction.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from services.otp.allowance import FAILURE_WINDOW
from services.otp.challenge import STEP
from services.otp.limits import DAY
from services.otp.tables import (
    challenges,
    commands,
    compared,
    failures,
    guesses,
    mails,
    standing,
)
from services.otp.tally import HOUR, MINUTE
from shared.storage import dialect
from shared.storage.dialect import Clock, Prepared

PURGE_ROWS = 1000  # a transaction: codes wait for no longer than such a piece takes
# Milliseconds. A dead challenge still answers who asks again: a command may come back for 14 hours
# (shared.retry). With the purge's own interval it is gone within a day.
KEEP = 20 * 3600 * 1000
# Milliseconds. A guess that was refused unseen counts for nothing; it answers who asks again.
ANSWER = 3600 * 1000


class ChallengeStatements:
    """The statements in the words of one database.

    Those that are prepared take as many rows as there are, see `dialect.rows`.
    """

    def __init__(self, connection: sa.Connection, clock: Clock) -> None:
        self._connection = connection
        self._now = clock(connection)
        self._in_time = sa.and_(
            challenges.c.created_at <= self._now + STEP, challenges.c.expires_at > self._now
        )

    @cached_property
    def now(self) -> Prepared:
        """Read the clock."""
        return self._prepared(sa.select(self._now))

    @cached_property
    def named(self) -> Prepared:
        """See the challenges of some ids, dead or alive."""
        return self._found(challenges, challenges.c.id)

    @cached_property
    def standing(self) -> Prepared:
        """See the challenges of some recipients that nothing has ended so far.

        A recipient without any is an empty row, so that the time taken does not show it.
        """
        recipient = challenges.c.recipient
        given = dialect.rows(recipient)
        of = sa.and_(recipient == given.c.recipient, standing)
        return self._prepared(sa.select(challenges).select_from(given.outerjoin(challenges, of)))

    @cached_property
    def answers(self) -> Prepared:
        """See what the commands of some ids were answered with."""
        return self._found(commands, commands.c.id)

    @cached_property
    def tallying(self) -> Prepared:
        """See how many mails there were, by subject and minute."""
        return self._found(mails, mails.c.subject, mails.c.minute >= sa.bindparam("since"))

    @cached_property
    def making(self) -> sa.Executable:
        """Keep a new challenge."""
        return sa.insert(challenges)

    @cached_property
    def mailing(self) -> Prepared:
        """Remember of some ids of challenges that they were mailed."""
        return self._changed(mailed_at=sa.bindparam("now", type_=sa.BigInteger))

    @cached_property
    def ending(self) -> Prepared:
        """Let the challenges of some ids stand no more."""
        return self._changed(standing, died_at=self._now)

    @cached_property
    def cancelling(self) -> sa.Executable:
        """Let a client's own challenge stand no more."""
        own = challenges.c.client == sa.bindparam("of_client")
        return self._dying.where(challenges.c.id == sa.bindparam("of_id"), own)

    @cached_property
    def remembering(self) -> Prepared:
        """Keep answers to commands; a new one is because the old one's key was withdrawn."""
        row = self._inserted(commands, *commands.c)
        renewed = {column.name: row.excluded[column.name] for column in commands.c}
        return self._prepared(row.on_conflict_do_update(index_elements=["id"], set_=renewed))

    @cached_property
    def counting(self) -> Prepared:
        """Add mails to those of their subject and minute."""
        return self._added(mails, mails.c.sent)

    @cached_property
    def failed(self) -> Prepared:
        """See how many failures there were, by subject and hour."""
        return self._found(failures, failures.c.subject, failures.c.hour >= sa.bindparam("since"))

    @cached_property
    def failing(self) -> Prepared:
        """Add failures to those of their subject and hour, or take some back."""
        return self._added(failures, failures.c.failed)

    @cached_property
    def recorded(self) -> Prepared:
        """See those guesses of some ids that are on record."""
        return self._found(guesses, guesses.c.id)

    @cached_property
    def past(self) -> Prepared:
        """Count the guesses of some recipients, by challenge and end.

        A recipient who has none is a row with 0, see `standing`.
        """
        table = guesses.c
        given = dialect.rows(table.recipient)
        by = (given.c.recipient, table.challenge_id, table.verified)
        recent = sa.and_(table.at > sa.bindparam("since"), compared)
        of = sa.and_(table.recipient == given.c.recipient, recent)
        count = sa.select(*by, sa.func.count(table.challenge_id))
        return self._prepared(count.select_from(given.outerjoin(guesses, of)).group_by(*by))

    @cached_property
    def recording(self) -> Prepared:
        """Put guesses on record."""
        return self._prepared(self._inserted(guesses, *guesses.c))

    @cached_property
    def using(self) -> Prepared:
        """Use challenges up that are alive, each by one of the guesses that want it; tell which."""
        given = dialect.rows(challenges.c.id, challenges.c.used_by)
        used = self._dying.values(used_by=given.c.used_by).where(
            challenges.c.id == given.c.id, self._in_time
        )
        return self._prepared(used.returning(challenges.c.used_by))

    @cached_property
    def verifying(self) -> Prepared:
        """Tell of some ids of guesses that they were right."""
        given = dialect.rows(guesses.c.id)
        right = sa.update(guesses).where(guesses.c.id == given.c.id)
        return self._prepared(right.values(verified=sa.true()))

    @cached_property
    def expiring(self) -> sa.Executable:
        """Let some of what is not in its time stand no more: no clock put back revives it.

        What others are busy with can wait, and must: they may be waiting for such a row.
        """
        late = sa.select(challenges.c.id).where(standing, sa.not_(self._in_time)).limit(PURGE_ROWS)
        return self._dying.where(challenges.c.id.in_(late.with_for_update(skip_locked=True)))

    @property
    def _dying(self) -> sa.Update:
        return sa.update(challenges).where(standing).values(died_at=self._now)

    @cached_property
    def forgetting(self) -> Sequence[sa.Executable]:
        """Delete some of what nobody will ask for any more, each a table's."""
        unseen = sa.not_(compared)
        return (
            _deleting(challenges, challenges.c.died_at < self._before(KEEP)),
            _deleting(commands, commands.c.at < self._before(KEEP)),
            _deleting(guesses, guesses.c.at < self._before(ANSWER), unseen),
            _deleting(guesses, guesses.c.at < self._before(FAILURE_WINDOW)),
            _deleting(mails, mails.c.minute < self._before((DAY + 1) * MINUTE) / MINUTE),
            _deleting(failures, failures.c.hour < self._before(FAILURE_WINDOW + HOUR) / HOUR),
        )

    def _found(
        self, table: sa.Table, by: sa.Column[Any], *which: sa.ColumnElement[bool]
    ) -> Prepared:
        """Find the rows of `table` whose column `by` is given."""
        given = dialect.rows(by)
        found = sa.select(table).join(given, sa.and_(by == given.c[by.name], *which))
        return self._prepared(found)

    def _changed(self, *which: sa.ColumnElement[bool], **values: sa.ColumnElement[int]) -> Prepared:
        """Change the challenges whose ids are given."""
        given = dialect.rows(challenges.c.id)
        change = sa.update(challenges).where(challenges.c.id == given.c.id, *which)
        return self._prepared(change.values(**values))

    def _added(self, table: sa.Table, number: sa.Column[int]) -> Prepared:
        """Add rows that are given, to the numbers of those that are there."""
        row = self._inserted(table, *table.c)
        sum_ = {number.name: number + row.excluded[number.name]}
        return self._prepared(
            row.on_conflict_do_update(index_elements=[*table.primary_key], set_=sum_)
        )

    def _inserted(self, table: sa.Table, *columns: sa.Column[Any]) -> dialect.Insert:
        """Insert rows that are given with these columns."""
        given = dialect.rows(*columns)
        row = sa.select(*given.c).where(sa.true())  # SQLite asks for the condition
        return dialect.insert(self._connection, table).from_select(list(given.c.keys()), row)

    def _prepared(self, statement: sa.ClauseElement) -> Prepared:
        return Prepared(self._connection, statement)

    def _before(self, age: int) -> sa.ScalarSelect[int]:
        # A query of its own: PostgreSQL uses no index for a time that changes from row to row.
        return sa.select(self._now - age).scalar_subquery()


def _deleting(table: sa.Table, *old: sa.ColumnElement[bool]) -> sa.Delete:
    key = tuple(table.primary_key)
    few = sa.select(*key).where(*old).limit(PURGE_ROWS)
    return sa.delete(table).where(sa.tuple_(*key).in_(few))
