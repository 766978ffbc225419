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
from services.otp.tables import challenges, commands, compared, guesses, mails, standing
from services.otp.tally import MINUTE
from shared import dialect
from shared.dialect import Clock

Row = sa.Row[*tuple[Any, ...]]
PURGE_ROWS = 1000  # a transaction: codes wait for no longer than such a piece takes
# Milliseconds. A dead challenge still answers who asks again: a command may come back for 14 hours
# (shared.retry). With the purge's own interval it is gone within a day.
KEEP = 20 * 3600 * 1000
# Milliseconds. A guess that was refused unseen counts for nothing; it answers who asks again.
ANSWER = 3600 * 1000


class Statements:
    """The statements in the words of one database."""

    def __init__(self, connection: sa.Connection, clock: Clock) -> None:
        self._now = clock(connection)
        self._in_time = sa.and_(
            challenges.c.created_at <= self._now + STEP, challenges.c.expires_at > self._now
        )
        self._insert_command = dialect.insert(connection, commands)
        self._insert_mails = dialect.insert(connection, mails)

    @cached_property
    def now(self) -> sa.Select[int]:
        """Read the clock."""
        return sa.select(self._now)

    @cached_property
    def named(self) -> sa.Executable:
        """See some challenges, dead or alive."""
        return sa.select(challenges).where(challenges.c.id.in_(_several("ids")))

    @cached_property
    def standing(self) -> sa.Executable:
        """See the challenges of some addresses that nothing has ended so far."""
        return sa.select(challenges).where(challenges.c.email.in_(_several("emails")), standing)

    @cached_property
    def answers(self) -> sa.Executable:
        """See what some commands were answered with."""
        return sa.select(commands).where(commands.c.id.in_(_several("ids")))

    @cached_property
    def tallying(self) -> sa.Executable:
        """See how many mails there were, by subject and minute."""
        subjects = mails.c.subject.in_(_several("subjects"))
        return sa.select(mails).where(subjects, mails.c.minute >= sa.bindparam("since"))

    @cached_property
    def making(self) -> sa.Executable:
        """Keep a new challenge."""
        return sa.insert(challenges)

    @cached_property
    def mailing(self) -> sa.Executable:
        """Remember when a challenge was mailed."""
        mailed = sa.update(challenges).where(challenges.c.id == sa.bindparam("of_id"))
        return mailed.values(mailed_at=sa.bindparam("new_mailed_at"))

    @cached_property
    def ending(self) -> sa.Executable:
        """Let a challenge stand no more."""
        return self._dying.where(challenges.c.id == sa.bindparam("of_id"))

    @cached_property
    def cancelling(self) -> sa.Executable:
        """Let a client's own challenge stand no more."""
        own = challenges.c.client == sa.bindparam("of_client")
        return self._dying.where(challenges.c.id == sa.bindparam("of_id"), own)

    @cached_property
    def remembering(self) -> sa.Executable:
        """Keep the answer to a command; a new one is because the old one's key was withdrawn."""
        row = self._insert_command
        names = ("at", "challenge_id", "resend_at", "reason", "retry_after")
        renewed = {name: getattr(row.excluded, name) for name in names}
        return row.on_conflict_do_update(index_elements=["id"], set_=renewed)

    @cached_property
    def counting(self) -> sa.Executable:
        """Add mails to those of their subject and minute."""
        row = self._insert_mails
        return row.on_conflict_do_update(
            index_elements=["subject", "minute"],
            set_={"sent": mails.c.sent + row.excluded.sent},
        )

    @cached_property
    def recorded(self) -> sa.Executable:
        """See the guesses that are on record."""
        return sa.select(guesses).where(guesses.c.id.in_(_several("ids")))

    @cached_property
    def past(self) -> sa.Executable:
        """Count the guesses of some recipients, by challenge and end."""
        table = guesses.c
        columns = (table.recipient, table.challenge_id, table.verified)
        recent = sa.and_(table.recipient.in_(_several("recipients")), compared)
        counted = sa.select(*columns, sa.func.count().label("count"))
        return counted.where(recent, table.at > sa.bindparam("since")).group_by(*columns)

    @cached_property
    def recording(self) -> sa.Executable:
        """Put a guess on record."""
        return sa.insert(guesses)

    @cached_property
    def using(self) -> sa.Executable:
        """Use a challenge up, if it is alive."""
        return (
            sa.update(challenges)
            .where(challenges.c.id == sa.bindparam("of_id"), standing, self._in_time)
            .values(died_at=self._now, used_by=sa.bindparam("new_used_by"))
        )

    @cached_property
    def verifying(self) -> sa.Executable:
        """Tell of a guess that it was right, if it has used its challenge up."""
        table, used = guesses.c, challenges.c
        user = sa.select(used.used_by).where(used.id == table.challenge_id).scalar_subquery()
        right = sa.update(guesses).where(table.id == sa.bindparam("of_guess"), table.id == user)
        return right.values(verified=True)

    @cached_property
    def users(self) -> sa.Executable:
        """See which guesses have used some challenges up."""
        return sa.select(challenges.c.used_by).where(challenges.c.id.in_(_several("ids")))

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
        )

    def _before(self, age: int) -> sa.ScalarSelect[int]:
        # A query of its own: PostgreSQL uses no index for a time that changes from row to row.
        return sa.select(self._now - age).scalar_subquery()


def _deleting(table: sa.Table, *old: sa.ColumnElement[bool]) -> sa.Delete:
    key = tuple(table.primary_key)
    few = sa.select(*key).where(*old).limit(PURGE_ROWS)
    return sa.delete(table).where(sa.tuple_(*key).in_(few))


def _several(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, expanding=True)
