"""The mails for later in the database."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.scheduler.recipients import without
from services.scheduler.store.due import Leases, milliseconds, moment
from services.scheduler.store.tables import forgotten, mail_recipients, mails
from shared import contracts
from shared.contracts import SendEmail
from shared.runtime.sealing import AddressHasher, fold
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

# For so long a copy of the command of a mail may still come: a repeated request, or a delivery.
REMEMBER = timedelta(days=7)

# A mail from before a forgetting is due by then: it may be accepted for 30 days ahead.
REMEMBER_FORGOTTEN = timedelta(days=31)
FORGET_MAILS = 16  # a transaction, each with its attachments in memory
# The number of the lock between keeping and forgetting, among the advisory locks of a database.
_LOCK = 0x73636865_64000001

_TABLE = mails.c
_REMEMBER_MILLISECONDS = REMEMBER // timedelta(milliseconds=1)
_FORGOTTEN_MILLISECONDS = REMEMBER_FORGOTTEN // timedelta(milliseconds=1)
_TO_NEXT_MILLISECOND = timedelta(microseconds=999)


class DueMail(NamedTuple):
    """A mail that this scheduler has taken, to be sent or, if it is cancelled, to be reported.

    Without a command it is done, or was cancelled and its command has not come; it is forgotten.
    """

    client: str  # empty for none
    email_id: str
    cancelled: bool
    command: bytes | None  # as on the wire
    trace: str | None = None  # the traceparent of the request for it


class LaterStore:
    """The mails for later. Every method raises Retry without the database.

    `hashers` are of all keys, the newest first, with which forgotten addresses are hashed.
    """

    def __init__(
        self,
        database: Database,
        leases: Leases,
        hashers: Sequence[AddressHasher],
        clock: Clock = dialect.now,
    ) -> None:
        self._database = HandlerDatabase(database, "the mails for later")
        self._leases = leases
        self._hashers = hashers
        self._clock = clock

    async def keep(self, command: SendEmail, trace: str | None = None) -> None:
        """Keep a mail until its time; a second command of its id changes nothing.

        Its sending continues `trace`, the traceparent of its request.

        The command of a mail that was cancelled is due at once, to be reported. Recipients who were
        forgotten after the mail was accepted are left out.
        """
        await self._database.write(lambda c: self._keep(c, command, trace))

    async def reschedule(self, client: str | None, email_id: str, at: datetime) -> datetime | None:
        """Change the time of a mail; return when that was done, None if it is on its way.

        Of two changes of a mail the later one has the later time, by the database's clock.
        """
        change = sa.update(mails).where(*_waits(client, email_id), sa.not_(_TABLE.cancelled))
        change = change.values(due_at=_due_at(at))
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

    async def put_back(self, token: str, failed: Sequence[DueMail]) -> None:
        """Make mails due at once that the broker has not confirmed.

        Each may have been published, and is neither changed nor cancelled any more.
        """
        key = sa.tuple_(_TABLE.client, _TABLE.email_id)
        keys = [(each.client, each.email_id) for each in failed]
        change = sa.update(mails).where(key.in_(keys), _TABLE.token == token)
        await self._database.write(
            lambda c: c.execute(change.values(due_at=dialect.read_now(c, self._clock))).rowcount
        )

    async def forget(self, email: str) -> int:
        """Remove an address from all mails; return of how many.

        A mail to it alone is done: its id stays as that of a mail that was sent. Also a mail that
        another scheduler has taken is changed, in case that this one dies.
        """
        await self._database.write(partial(self._remember, email=email))
        changed = await self._database.write_all(partial(self._forget_some, email=email))
        await self._database.empty_log()
        return changed

    async def purge(self) -> None:
        """Delete the hashes of addresses that no command of before can come for any more."""
        await self._database.write(self._purge)

    def _remember(self, connection: sa.Connection, email: str) -> None:
        dialect.lock(connection, _LOCK, alone=True)
        row = dialect.insert(connection, forgotten).values(
            address_key=self._hashers[0].hash(email), at=dialect.read_now(connection, self._clock)
        )
        connection.execute(
            row.on_conflict_do_update(index_elements=["address_key"], set_={"at": row.excluded.at})
        )

    def _forget_some(self, connection: sa.Connection, email: str) -> int:
        place = mail_recipients.c
        of_them = sa.and_(place.client == _TABLE.client, place.email_id == _TABLE.email_id)
        look = (
            sa.select(_TABLE.client, _TABLE.email_id, _TABLE.command)
            .join(mail_recipients, of_them)
            .where(place.folded == fold(email))
            .limit(FORGET_MAILS)
            .with_for_update(of=mails)
        )
        found = connection.execute(look).all()
        until = dialect.read_now(connection, self._clock) + _REMEMBER_MILLISECONDS
        for client, email_id, command in found:
            left = without(SendEmail.read(command), lambda each: fold(each) == fold(email))
            done = {"command": None, "token": None, "due_at": until}
            values = done if left is None else {"command": contracts.encode(left)}
            change = sa.update(mails).where(*_is(client, email_id))
            connection.execute(change.values(values))
        keys = [(client, email_id) for client, email_id, _ in found]
        gone = sa.tuple_(place.client, place.email_id).in_(keys)
        connection.execute(sa.delete(mail_recipients).where(gone, place.folded == fold(email)))
        return len(found)

    def _purge(self, connection: sa.Connection) -> None:
        until = dialect.read_now(connection, self._clock) - _FORGOTTEN_MILLISECONDS
        connection.execute(sa.delete(forgotten).where(forgotten.c.at < until))

    def _is_forgotten(self, connection: sa.Connection, command: SendEmail) -> Callable[[str], bool]:
        """Return whether an address was forgotten after a command was accepted.

        No forgetting begins until the transaction has committed.
        """
        dialect.lock(connection, _LOCK, alone=False)
        rows = connection.execute(sa.select(forgotten.c.address_key, forgotten.c.at))
        times = {row.address_key: row.at for row in rows}
        at = None if command.created_at is None else milliseconds(command.created_at)

        def is_forgotten(email: str) -> bool:
            keys = (each.hash(email) for each in self._hashers)
            return at is not None and any(at <= times.get(key, -1) for key in keys)

        return is_forgotten if times else lambda _: False

    def _keep(self, connection: sa.Connection, accepted: SendEmail, trace: str | None) -> None:
        command = without(accepted, self._is_forgotten(connection, accepted))
        if command is None:
            return
        at = command.scheduled_at
        due = dialect.read_now(connection, self._clock) if at is None else _due_at(at)
        values = {
            "client": command.client or "",
            "email_id": command.id,
            "due_at": due,
            "cancelled": False,
            "command": contracts.encode(command),
            "trace": trace,
        }
        insert = dialect.insert(connection, mails).values(values)
        made = connection.execute(insert.on_conflict_do_nothing()).rowcount
        if not made:
            cancelled = sa.update(mails).where(
                *_is(command.client, command.id), _TABLE.cancelled, _TABLE.command.is_(None)
            )
            now = dialect.read_now(connection, self._clock)
            change = cancelled.values(command=values["command"], trace=trace, due_at=now)
            made = connection.execute(change).rowcount
        if made:
            key = {"client": command.client or "", "email_id": command.id}
            rows = [{**key, "folded": each} for each in {*map(fold, command.recipients)}]
            insert = dialect.insert(connection, mail_recipients)
            connection.execute(insert.on_conflict_do_nothing(), rows)

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
        own = connection.execute(kept.returning(_TABLE.client, _TABLE.email_id)).all()
        place = sa.tuple_(mail_recipients.c.client, mail_recipients.c.email_id)
        connection.execute(sa.delete(mail_recipients).where(place.in_([*map(tuple, own)])))

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
            .returning(*(_TABLE[name] for name in DueMail._fields))
        )
        return [DueMail(*row) for row in connection.execute(take)]


def _due_at(at: datetime) -> int:
    """Return the first millisecond that is not before a time: no mail is sent early."""
    return milliseconds(at + _TO_NEXT_MILLISECOND)


def _waits(client: str | None, email_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition that a mail is here, and no scheduler has ever taken it.

    One whose scheduler died may have been published.
    """
    return *_is(client, email_id), _TABLE.command.is_not(None), _TABLE.token.is_(None)


def _is(client: str | None, email_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _TABLE.client == (client or ""), _TABLE.email_id == email_id
