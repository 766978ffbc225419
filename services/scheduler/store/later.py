"""The mails for later in the database."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from services.scheduler.store.due import Leases, milliseconds
from services.scheduler.store.tables import mails
from shared import contracts
from shared.contracts import SendEmail
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

# For so long the command of a cancelled mail may still be in its queue.
REMEMBER_CANCELLED = timedelta(days=7)

_TABLE = mails.c


class DueMail(NamedTuple):
    """A mail that this scheduler has taken, to be sent or, if it is cancelled, to be reported."""

    client: str  # empty for none
    email_id: str
    cancelled: bool
    command: SendEmail | None  # None if it has not come


class LaterStore:
    """The mails for later. Every method raises Retry without the database."""

    def __init__(self, database: Database, leases: Leases, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the mails for later")
        self._leases = leases
        self._clock = clock

    async def keep(self, command: SendEmail) -> None:
        """Keep a mail until its time; a second command of its id changes nothing.

        One that was cancelled before its command came is due at once, to be reported.
        """
        await self._database.write(lambda c: self._keep(c, command))

    async def reschedule(self, client: str | None, email_id: str, at: datetime) -> bool:
        """Change the time of a mail; return whether it was not yet on its way."""
        change = sa.update(mails).where(
            *_is(client, email_id), sa.not_(_TABLE.cancelled), _TABLE.command.is_not(None)
        )
        return await self._database.write(
            lambda c: (
                c.execute(
                    change.where(self._is_free(c)).values(due_at=milliseconds(at), token=None)
                ).rowcount
                > 0
            )
        )

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

    async def remove(self, token: str, sent: Sequence[DueMail]) -> None:
        """Delete mails that were published, unless another scheduler has taken them since."""
        keys = [(each.client, each.email_id) for each in sent]
        delete = sa.delete(mails).where(
            sa.tuple_(_TABLE.client, _TABLE.email_id).in_(keys), _TABLE.token == token
        )
        await self._database.write(lambda c: c.execute(delete))

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
        change = sa.update(mails).where(
            *_is(client, email_id), self._is_free(connection), _TABLE.command.is_not(None)
        )
        if connection.execute(change.values(cancelled=True, due_at=now, token=None)).rowcount:
            return True
        values = {
            "client": client or "",
            "email_id": email_id,
            "due_at": now + milliseconds_of(REMEMBER_CANCELLED),
            "cancelled": True,
        }
        insert = dialect.insert(connection, mails).values(values)
        connection.execute(insert.on_conflict_do_nothing())
        return False

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
        return [
            DueMail(client, email_id, cancelled, None if body is None else SendEmail.read(body))
            for client, email_id, cancelled, body in connection.execute(take)
        ]

    def _is_free(self, connection: sa.Connection) -> sa.ColumnElement[bool]:
        """Return the condition that no scheduler is publishing a mail."""
        now = dialect.read_now(connection, self._clock)
        return sa.or_(_TABLE.token.is_(None), _TABLE.due_at <= now)


def milliseconds_of(span: timedelta) -> int:
    """Return a span of time in milliseconds."""
    return span // timedelta(milliseconds=1)


def _is(client: str | None, email_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _TABLE.client == (client or ""), _TABLE.email_id == email_id
