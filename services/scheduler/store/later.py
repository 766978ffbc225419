"""The mails for later in the database."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from services.scheduler.store.due import Leases, milliseconds, moment
from services.scheduler.store.tables import mails
from shared import contracts
from shared.contracts import SendEmail
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

# For so long a copy of the command of a mail may still come: a repeated request, or a delivery.
REMEMBER = timedelta(days=7)

_TABLE = mails.c
_REMEMBER_MILLISECONDS = REMEMBER // timedelta(milliseconds=1)


class DueMail(NamedTuple):
    """A mail that this scheduler has taken, to be sent or, if it is cancelled, to be reported.

    Without a command it is done, or was cancelled and its command has not come; it is forgotten.
    """

    client: str  # empty for none
    email_id: str
    cancelled: bool
    command: bytes | None  # as on the wire


class LaterStore:
    """The mails for later. Every method raises Retry without the database."""

    def __init__(self, database: Database, leases: Leases, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the mails for later")
        self._leases = leases
        self._clock = clock

    async def keep(self, command: SendEmail) -> None:
        """Keep a mail until its time; a second command of its id changes nothing.

        The command of a mail that was cancelled is due at once, to be reported.
        """
        await self._database.write(lambda c: self._keep(c, command))

    async def reschedule(self, client: str | None, email_id: str, at: datetime) -> datetime | None:
        """Change the time of a mail; return when that was done, None if it is on its way.

        Of two changes of a mail the later one has the later time, by the database's clock.
        """
        change = sa.update(mails).where(*_waits(client, email_id), sa.not_(_TABLE.cancelled))
        change = change.values(due_at=milliseconds(at))
        changed = await self._database.write(lambda c: c.scalar(change.returning(self._clock(c))))
        return None if changed is None else moment(changed)

    async def unschedule(self, client: str | None, email_id: str) -> bool:
        """Cancel a mail; return whether it will certainly not be sent by a scheduler.

        It is reported as cancelled by the next look at what is due. If it is not known, its command
        may still come, and is then cancelled.
        """
        return await self._database.write(lambda c: self._unschedule(c, client, email_id))

    async def take(self, limit: int) -> tuple[str, Sequence[DueMail]]:
        """Claim up to `limit` due mails; return the token and the mails."""
        token = self._leases.new_token()
        return token, await self._database.write(lambda c: self._take(c, token, limit))

    async def finish(self, token: str, done: Sequence[DueMail]) -> None:
        """Delete the commands of mails that were published, and those that had none whole.

        For REMEMBER the id stays, so that a copy of a command sends or cancels nothing again.
        Mails that another scheduler has taken since are left.
        """
        await self._database.write(lambda c: self._finish(c, token, done))

    def _keep(self, connection: sa.Connection, command: SendEmail) -> None:
        at = command.scheduled_at
        due = dialect.read_now(connection, self._clock) if at is None else milliseconds(at)
        values = {
            "client": command.client or "",
            "email_id": command.id,
            "due_at": due,
            "cancelled": False,
            "command": contracts.encode(command),
        }
        insert = dialect.insert(connection, mails).values(values)
        made = connection.execute(insert.on_conflict_do_nothing()).rowcount
        if not made:
            cancelled = sa.update(mails).where(
                *_is(command.client, command.id), _TABLE.cancelled, _TABLE.command.is_(None)
            )
            now = dialect.read_now(connection, self._clock)
            connection.execute(cancelled.values(command=values["command"], due_at=now))

    def _unschedule(self, connection: sa.Connection, client: str | None, email_id: str) -> bool:
        now = dialect.read_now(connection, self._clock)
        cancel = sa.update(mails).where(*_waits(client, email_id))
        cancel = cancel.values(cancelled=True, due_at=now)
        if connection.execute(cancel).rowcount:
            return True
        values = {
            "client": client or "",
            "email_id": email_id,
            "due_at": now + _REMEMBER_MILLISECONDS,
            "cancelled": True,
        }
        insert = dialect.insert(connection, mails).values(values)
        if connection.execute(insert.on_conflict_do_nothing()).rowcount:
            return False
        # The command has come meanwhile; or the mail is on its way, and this changes nothing.
        return connection.execute(cancel).rowcount > 0

    def _finish(self, connection: sa.Connection, token: str, done: Sequence[DueMail]) -> None:
        key = sa.tuple_(_TABLE.client, _TABLE.email_id)
        keys = [(each.client, each.email_id) for each in done]
        here = (key.in_(keys), _TABLE.token == token)
        connection.execute(sa.delete(mails).where(*here, _TABLE.command.is_(None)))
        until = dialect.read_now(connection, self._clock) + _REMEMBER_MILLISECONDS
        kept = sa.update(mails).where(*here).values(command=None, token=None, due_at=until)
        connection.execute(kept)

    def _take(self, connection: sa.Connection, token: str, limit: int) -> Sequence[DueMail]:
        now = dialect.read_now(connection, self._clock)
        key = sa.tuple_(_TABLE.client, _TABLE.email_id)
        due = (
            sa.select(_TABLE.client, _TABLE.email_id)
            .where(_TABLE.due_at <= now)
            .order_by(_TABLE.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        take = (
            sa.update(mails)
            .where(key.in_(due))
            .values(due_at=now + self._leases.milliseconds, token=token)
            .returning(_TABLE.client, _TABLE.email_id, _TABLE.cancelled, _TABLE.command)
        )
        return [DueMail(*row) for row in connection.execute(take)]


def _waits(client: str | None, email_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition that a mail is here, and no scheduler has ever taken it.

    One whose scheduler died may have been published.
    """
    return *_is(client, email_id), _TABLE.command.is_not(None), _TABLE.token.is_(None)


def _is(client: str | None, email_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _TABLE.client == (client or ""), _TABLE.email_id == email_id
