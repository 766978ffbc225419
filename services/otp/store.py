"""Challenges in the database: one alive for each holder, guesses counted, used up once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from services.otp.challenge import Challenge, Draft, Holder, Rules
from services.otp.tables import challenges, commands, standing
from shared import dialect
from shared.database import Database
from shared.dialect import MILLISECONDS, Clock

# A dead challenge still answers who asks again: a command may come back for 14 hours
# (shared.retry). With the purge's own interval it is gone within a day.
KEEP_SECONDS = 20 * 3600

_Row = sa.Row[*tuple[Any, ...]]


class ChallengeStore:
    """The challenges of this deployment; `key_ids` names the keys that codes can be derived by."""

    def __init__(
        self,
        database: Database,
        rules: Rules,
        key_ids: Sequence[str],
        clock: Clock = dialect.now,
    ) -> None:
        self._database = database
        self._rules = rules
        self._key_ids = key_ids
        self._clock = clock
        self._texts: _Statements | None = None

    async def issue(self, command_id: str, draft: Draft) -> Challenge:
        """Give the challenge that a command asks for: the holder's own if alive, else `draft`.

        The same command gets the same challenge again, even a dead one.
        """
        return await self._database.write(
            lambda connection: self._issue(connection, command_id, draft)
        )

    async def guess(self, holder: Holder, request_id: str) -> Challenge | None:
        """Count one guess and give the challenge that it may be compared with, if there is any.

        It is committed before it is compared: no crash gives a guess back. What this very request
        has used up already is given again and counts nothing.
        """
        return await self._database.write(
            lambda connection: self._guess(connection, holder, request_id)
        )

    async def use(self, challenge_id: str, request_id: str) -> bool:
        """Use a challenge up; True for the one request that does, however often it asks."""
        return await self._database.write(
            lambda connection: self._use(connection, challenge_id, request_id)
        )

    async def purge(self) -> int:
        """Delete what has been dead for KEEP_SECONDS, and tell how much that was."""
        return await self._database.write(self._purge)

    def _issue(self, connection: sa.Connection, command_id: str, draft: Draft) -> Challenge:
        say, holder = self._on(connection), draft.holder
        row = connection.execute(say.issued, {"command_id": command_id}).first()
        if row is None:
            connection.execute(say.replacing, _of(holder))
            drafted = {"id": draft.id, "nonce": draft.nonce, "key_id": draft.key_id}
            owned = {"client": holder.client, "email": holder.email}
            row = connection.execute(say.standing, drafted | owned).one()
            connection.execute(say.remembering, {"id": command_id, "challenge_id": row.id})
        return _challenge(row)

    def _guess(
        self, connection: sa.Connection, holder: Holder, request_id: str
    ) -> Challenge | None:
        say, of = self._on(connection), _of(holder)
        by = of | {"request_id": request_id}
        row = (
            connection.execute(say.used_by, by).first()
            or connection.execute(say.counting, of).first()
            # A copy of this request may have used it up between the two statements.
            or connection.execute(say.used_by, by).first()
        )
        return None if row is None else _challenge(row)

    def _use(self, connection: sa.Connection, challenge_id: str, request_id: str) -> bool:
        say, of = self._on(connection), {"challenge_id": challenge_id}
        connection.execute(say.using, of | {"request_id": request_id})
        return connection.scalar(say.user, of) == request_id

    def _purge(self, connection: sa.Connection) -> int:
        return connection.execute(self._on(connection).purging).rowcount

    def _on(self, connection: sa.Connection) -> "_Statements":
        if self._texts is None:
            now = self._clock(connection)
            self._texts = _Statements(connection, now, self._rules, self._key_ids)
        return self._texts


class _Statements:
    """What is said to one kind of database, made once: making it costs more than running it."""

    def __init__(
        self,
        connection: sa.Connection,
        now: sa.ColumnElement[int],
        rules: Rules,
        key_ids: Sequence[str],
    ) -> None:
        self._now = now
        self._rules = rules
        self._known = challenges.c.key_id.in_(key_ids)
        self.standing = self._standing(dialect.insert(connection, challenges))
        self.remembering = self._remembering(dialect.insert(connection, commands))

    @cached_property
    def issued(self) -> sa.Executable:
        """See what a command was answered with."""
        answered = commands.c.id == sa.bindparam("command_id")
        return sa.select(challenges).join(commands).where(answered, self._known)

    @cached_property
    def replacing(self) -> sa.Executable:
        """Let a dead challenge stand for its holder no more."""
        table = challenges.c
        exhausted = table.tries >= self._rules.tries
        dead = sa.or_(table.expires_at <= self._now, exhausted, sa.not_(self._known))
        return sa.update(challenges).where(_HOLDER, standing, dead).values(replaced_at=self._now)

    @cached_property
    def used_by(self) -> sa.Executable:
        """See what a request has used up."""
        return sa.select(challenges).where(
            _HOLDER, challenges.c.used_by == sa.bindparam("request_id")
        )

    @cached_property
    def counting(self) -> sa.Executable:
        """Count a guess, if there is one left."""
        table = challenges.c
        alive = sa.and_(standing, table.expires_at > self._now, table.tries < self._rules.tries)
        counted = sa.update(challenges).where(_HOLDER, alive).values(tries=table.tries + 1)
        return counted.returning(*table)

    @cached_property
    def using(self) -> sa.Executable:
        """Use a challenge up, if it is alive."""
        alive = sa.and_(standing, challenges.c.expires_at > self._now)
        return (
            sa.update(challenges)
            .where(challenges.c.id == sa.bindparam("challenge_id"), alive)
            .values(used_at=self._now, used_by=sa.bindparam("request_id"))
        )

    @cached_property
    def user(self) -> sa.Select[str | None]:
        """See which request has used a challenge up."""
        return sa.select(challenges.c.used_by).where(
            challenges.c.id == sa.bindparam("challenge_id")
        )

    @cached_property
    def purging(self) -> sa.Executable:
        """Delete what has been dead for long."""
        table, limit = challenges.c, self._now - KEEP_SECONDS * MILLISECONDS
        deaths = (table.used_at, table.replaced_at, table.expires_at)
        return sa.delete(challenges).where(sa.or_(*(death < limit for death in deaths)))

    def _standing(self, insert: dialect.Insert) -> sa.Executable:
        """Insert a draft, or give what stands in its place, in one statement: no race."""
        lifetime = round(self._rules.lifetime * MILLISECONDS)
        drafted = insert.values(
            digits=self._rules.digits,
            tries=0,
            created_at=self._now,
            expires_at=self._now + lifetime,
        )
        # An update of nothing, since RETURNING has no row after DO NOTHING.
        return drafted.on_conflict_do_update(
            index_elements=["client", "email"],
            index_where=standing,
            set_={"tries": challenges.c.tries},
        ).returning(*challenges.c)

    def _remembering(self, insert: dialect.Insert) -> sa.Executable:
        return insert.on_conflict_do_update(
            index_elements=["id"], set_={"challenge_id": insert.excluded.challenge_id}
        )


_HOLDER = sa.and_(
    challenges.c.client == sa.bindparam("of_client"), challenges.c.email == sa.bindparam("of_email")
)


def _of(holder: Holder) -> dict[str, str]:
    """Give the parameters of _HOLDER."""
    return {"of_client": holder.client, "of_email": holder.email}


def _challenge(row: _Row) -> Challenge:
    return Challenge(
        id=row.id,
        holder=Holder(row.client, row.email),
        nonce=row.nonce,
        key_id=row.key_id,
        digits=row.digits,
        expires_at=datetime.fromtimestamp(row.expires_at / MILLISECONDS, UTC),
    )
